"""Addresses and names of inputs."""
