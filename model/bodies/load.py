"""`load_body`: a body by name or path."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from handface.model.bodies.arrays import BodyArrays, BodyFileError
from handface.model.bodies.body import ParametricBody
from handface.model.bodies.convention import Convention, named_convention
from handface.model.bodies.mirror import mirror_arrays
from handface.model.bodies.npz import read_body

DATA = Path(__file__).parent / "data"
FREE = {"free-hand": DATA / "hand.npz", "free-head": DATA / "head.npz"}


def load_arrays(body: str | Path) -> BodyArrays:
    """Arrays of `free-hand`, `free-head` or an imported .npz, shared: not to be written to. Raises BodyFileError naming file and key."""
    if str(body) in FREE:
        return _free(str(body))
    path = Path(body)
    if path.suffix in (".pkl", ".npy"):
        raise BodyFileError(f"{path}: import it once with `handface bodies import {path}` and load the .npz")
    if not path.is_file():
        raise BodyFileError(f"{path}: no such file; give a body .npz or one of {', '.join(FREE)}")
    return read_body(path)


@cache
def _free(name: str) -> BodyArrays:
    """Read once in a process: a command needs the free bodies in many places, and unpacking one takes 60 ms."""
    return read_body(FREE[name])


def load_body(
    body: str | Path,
    convention: Convention | str = "smplx",
    side: str = "right",
    dtype: torch.dtype = torch.float32,
) -> ParametricBody:
    """A ready body. convention: a `Convention` or the name of one; side: `left` mirrors a right hand (x -> -x).

    Raises BodyFileError for a bad file and ValueError for a convention the body cannot follow.
    """
    arrays = load_arrays(body)
    if side not in ("left", "right"):
        raise ValueError(f"side is {side!r}, not 'left' or 'right'")
    if side == "left":
        if arrays.kind != "hand":
            raise ValueError(f"{body}: only a hand has sides")
        arrays = mirror_arrays(arrays)
    chosen = named_convention(convention, arrays.kind) if isinstance(convention, str) else convention
    return ParametricBody(arrays, chosen, dtype)
