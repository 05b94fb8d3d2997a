"""How a training picture and its labels are varied."""
