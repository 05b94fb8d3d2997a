"""The steps between an input and a sample, one small class each."""
