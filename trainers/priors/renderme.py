"""RenderMe-360's FLAME fits: HDF5 containers `.smc`, one per actor and performance. Needs h5py (extra `renderme`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.extras import extra
from handface.trainers.priors.parameters import Floats, ParameterSet, PriorDataError

if TYPE_CHECKING:
    import h5py

_FIELDS = {"jaw_pose": 3, "exp": 50, "shape": 100}


def read_renderme(files: Sequence[Path]) -> ParameterSet:
    """Faces of `.smc` files: group FLAME with attribute num_frame and a group per frame "0", "1", ... of jaw_pose (3,), exp (50,),
    shape (100,). Files without the group (performances without expressions) are passed over.

    Raises PriorDataError naming file, frame and field; ImportError without h5py.
    """
    frames = [frame for file in files for frame in _frames(file)]
    if not frames:
        raise PriorDataError(
            f"{files[0].parent if files else 'no file'}: no FLAME group in {len(files)} .smc files; only expression performances"
            " (an `e` in their name) have one"
        )
    jaw, expression, betas = (np.stack(values) for values in zip(*frames, strict=True))
    source = str(files[0]) if len(files) == 1 else str(files[0].parent)
    return ParameterSet(source, head_jaw=jaw, head_expression=expression, head_betas=betas, head_model="flame")


def _frames(file: Path) -> Iterator[tuple[Floats, ...]]:
    with extra("renderme", f"{file}: reading .smc"):
        import h5py
    try:
        container = h5py.File(file, "r")
    except OSError as error:
        raise PriorDataError(f"{file}: not a readable HDF5 container ({error})") from error
    with container:
        if "FLAME" not in container:
            return
        group = container["FLAME"]
        try:
            count = int(group.attrs["num_frame"])
        except (KeyError, TypeError, ValueError) as error:
            raise PriorDataError(f"{file}: group FLAME has no whole attribute num_frame") from error
        for index in range(count):
            yield tuple(_vector(file, group, index, name, length) for name, length in _FIELDS.items())


def _vector(file: Path, group: h5py.Group, index: int, name: str, length: int) -> Floats:
    where = f"{file}: FLAME/{index}/{name}"
    dataset: Any = group.get(f"{index}/{name}")
    if dataset is None or not hasattr(dataset, "shape"):
        raise PriorDataError(f"{where} is missing")
    if dataset.size != length or dataset.dtype.kind not in "fiu":
        raise PriorDataError(f"{where} is {dataset.dtype}{list(dataset.shape)}, expected {length} numbers")
    return np.asarray(dataset[()], np.float32).reshape(length)
