"""The fixtures of `gated_files` for the tests beside it."""

from tests.model.bodies.gated_files import (
    chumpy,
    flame_arrays,
    flame_pkl,
    landmark_arrays,
    landmark_npy,
    mano_arrays,
    mano_pkl,
    write_python2,
)

__all__ = [
    "chumpy",
    "flame_arrays",
    "flame_pkl",
    "landmark_arrays",
    "landmark_npy",
    "mano_arrays",
    "mano_pkl",
    "write_python2",
]
