"""The DICE network and everything it is made of."""
