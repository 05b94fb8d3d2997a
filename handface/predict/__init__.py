"""Prediction for people: the network behind the pipeline's detector, and its inputs."""
