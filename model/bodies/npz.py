"""Body arrays in an .npz without pickle: the same arrays always give the same bytes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.arrays import BodyArrays, BodyFileError, KeypointSet, Level, MirrorMap

FORMAT = "handface-body-1"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a ZIP can hold
_TEXT = ("kind", "joint_names", "expression_names", "provenance")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an .npz whose bytes depend on the arrays only: sorted names, no time stamps."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(arrays[name], order="C"), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, buffer.getvalue())


@dataclass(frozen=True)
class PickledMember:
    """An array of objects in an .npz, left as it lies there. data: the .npy."""

    data: bytes = field(repr=False)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read every array of an .npz without pickle. Raises BodyFileError naming the file, and the key that is broken."""
    arrays: dict[str, NDArray[Any]] = {}
    for key, value in read_members(path).items():
        if isinstance(value, PickledMember):
            raise BodyFileError(f"{path}: key {key!r} holds objects, expected numbers; write the body again")
        arrays[key] = value
    return arrays


def read_members(path: Path) -> dict[str, NDArray[Any] | PickledMember]:
    """Read an .npz that others wrote; arrays of objects are left closed. Raises BodyFileError as `read_arrays`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: _member(path, archive, key) for key in archive.files}
    except FileNotFoundError:
        raise BodyFileError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        if isinstance(error, BodyFileError):
            raise
        raise BodyFileError(f"{path}: not a whole .npz ({error}); copy it again") from error


def _member(path: Path, archive: Any, key: str) -> NDArray[Any] | PickledMember:
    try:
        value: NDArray[Any] = archive[key]
    except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        if "allow_pickle=False" in str(error):
            return PickledMember(archive.zip.read(f"{key}.npy"))
        raise BodyFileError(f"{path}: key {key!r} cannot be read ({error}); copy the file again") from error
    return value


def save_body(path: Path, body: BodyArrays) -> None:
    """Write a body. Arrays keep their dtype; nested parts get dotted keys (`levels.0.keep`)."""
    text = {name: getattr(body, name) for name in _TEXT} | {"format": FORMAT}
    flat: dict[str, NDArray[Any]] = {"text": np.array(json.dumps(text, sort_keys=True))}
    for item in fields(body):
        if item.name not in _TEXT:
            flat |= _flatten(item.name, getattr(body, item.name))
    write_arrays(path, flat)


def _flatten(name: str, value: Any) -> dict[str, NDArray[Any]]:
    if value is None:
        return {}
    if isinstance(value, np.ndarray):
        return {name: value}
    if isinstance(value, Mapping):
        children = dict(value)
    elif isinstance(value, tuple):
        children = {str(index): child for index, child in enumerate(value)}
    else:
        children = {item.name: getattr(value, item.name) for item in fields(value)}
    flat: dict[str, NDArray[Any]] = {}
    for key, child in children.items():
        flat |= _flatten(f"{name}.{key}", child)
    return flat


def read_body(path: Path) -> BodyArrays:
    """Read and check a body written by `save_body`. Raises BodyFileError."""
    flat = read_arrays(path)
    try:
        text = json.loads(str(flat.pop("text")))
        if text.pop("format") != FORMAT:
            raise BodyFileError(f"{path}: key 'text': not {FORMAT}; build or import the body again")
        tree: dict[str, Any] = {}
        for key, value in flat.items():
            node = tree
            *stem, leaf = key.split(".")
            for part in stem:
                node = node.setdefault(part, {})
            node[leaf] = value
        levels = tree.pop("levels", {})
        body = BodyArrays(
            **tree
            | {
                "kind": text["kind"],
                "provenance": text["provenance"],
                "joint_names": tuple(text["joint_names"]),
                "expression_names": tuple(text["expression_names"]),
                "keypoint_sets": {name: KeypointSet(**part) for name, part in tree["keypoint_sets"].items()},
                "mirror": MirrorMap(**tree["mirror"]) if "mirror" in tree else None,
                "levels": tuple(Level(**levels[index]) for index in sorted(levels, key=int)),
            }
        )
    except KeyError as error:
        raise BodyFileError(
            f"{path}: key {error.args[0]!r} is missing; `handface bodies import` writes it from the original"
        ) from None
    except TypeError as error:
        raise BodyFileError(f"{path}: keys do not make a body ({str(error).partition('() ')[2] or error})") from None
    return body.check(str(path))
