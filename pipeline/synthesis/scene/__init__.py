"""One scene: who, where, light, camera, labels."""
