"""Tensors to meshes: bodies, network, camera, predictor, renderer. Start reading at dice.py."""
