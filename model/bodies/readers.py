"""MANO and FLAME model files, as their authors distribute them, into `BodyArrays`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from handface.model.bodies.arrays import BodyArrays, BodyFileError, KeypointSet, MirrorMap
from handface.model.bodies.decimate import build_levels
from handface.model.bodies.mirror import mirror_arrays
from handface.model.bodies.names import HAND_JOINTS, HEAD_JOINTS, HEAD_MIRROR_JOINTS, IBUG_MIRROR, MEDIAPIPE_FROM_POINTS
from handface.model.bodies.npz import PickledMember, read_members
from handface.model.bodies.restricted_pickle import load_pickle, plain

# Tip vertices, thumb to pinky, of the two codes that Decaf and DICE use; other libraries differ by a vertex or so.
MANO_TIPS: Mapping[str, tuple[int, ...]] = {"mano": (744, 320, 443, 554, 671), "metro": (745, 317, 445, 556, 673)}
# columns of FLAME's shapedirs -> how many of them are shape, before the expressions start: the files of 2019, 2020 and 2023, and
# the short form of some packages
FLAME_LAYOUTS: Mapping[int, int] = {400: 300, 150: 100}
_REQUIRED = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
_HAND_LEVELS, _HEAD_LEVELS = (195,), (1675, 559)
_MIRROR_TOLERANCE = 1e-5  # metres; FLAME's template is exactly symmetric


def read_mano(path: Path, num_betas: int = 10, mirror_left: bool = False) -> BodyArrays:
    """MANO v1.2 `MANO_RIGHT.pkl` (or an .npz of the same keys) as a right hand. Raises BodyFileError naming file and key.

    mirror_left: make a left hand the right one that it mirrors; otherwise left hands are refused.
    Keypoint sets: `mano` (tips as in otaheri/MANO and Decaf) and `metro` (as in DICE's network), both in MediaPipe order.
    """
    model = _read_model(path)
    joints = _joints(path, model, HAND_JOINTS)
    shape = _columns(path, model["shapedirs"], 0, num_betas)
    body = _assemble("hand", path, model, shape, shape[:, :, :0], HAND_JOINTS)
    for name, columns in (("hands_mean", None), ("hands_components", 3 * joints - 3)):
        if name not in model:
            raise BodyFileError(f"{path}: key {name!r} is missing; is this MANO v1.2?")
        if columns is not None and (model[name].ndim != 2 or model[name].shape[1] != columns):
            raise BodyFileError(f"{path}: key {name!r} has shape {model[name].shape}, expected (n, {columns})")
    fields = dict(vars(body))
    fields["keypoint_sets"] = {name: _hand_points(path, body, tips) for name, tips in MANO_TIPS.items()}
    fields["pose_mean"], fields["pose_components"] = model["hands_mean"].ravel(), model["hands_components"]
    fields["levels"] = build_levels(body.template, body.faces, _HAND_LEVELS)
    right = BodyArrays(**fields).check(str(path))
    if not _is_left(right):
        return right
    if not mirror_left:
        raise BodyFileError(
            f"{path}: a left hand (its middle finger points to +x); import MANO_RIGHT.pkl, from which left hands are mirrored, or "
            "mirror this one: `handface bodies import --mirror-left`"
        )
    return mirror_arrays(_with_left_shapes(right)).check(str(path))


def _is_left(hand: BodyArrays) -> bool:
    """Whether the middle finger points to +x from the wrist; MANO's right hand points to -x."""
    wrist, finger = (hand.joint_names.index(name) for name in ("wrist", "middle3"))
    return bool(hand.joint_template[finger, 0] > hand.joint_template[wrist, 0])


def _with_left_shapes(hand: BodyArrays) -> BodyArrays:
    """MANO_LEFT.pkl holds the right hand's shape directions, whose x points the wrong way (github.com/vchoutas/smplx/issues/48).

    The first direction makes the whole hand larger or smaller, so that along x and along the rest it must point the same way.
    """
    centred = hand.template - hand.template.mean(0)
    growth = (centred * hand.shapedirs[:, :, 0]).sum(0)
    if growth[0] * (growth[1] + growth[2]) >= 0:
        return hand
    flip = np.array([-1.0, 1.0, 1.0])[:, None]
    return replace(
        hand,
        shapedirs=hand.shapedirs * flip,
        joint_shapedirs=hand.joint_shapedirs * flip,
        keypoint_sets={
            name: replace(points, shapedirs=points.shapedirs * flip) for name, points in hand.keypoint_sets.items()
        },
    )


def read_flame(
    path: Path,
    landmarks: Path,
    num_betas: int = 100,
    num_expressions: int = 50,
    neck: Path | None = None,
    stiffness: Path | None = None,
) -> BodyArrays:
    """FLAME's `generic_model.pkl` (2019, 2020), `flame2023.pkl` or an .npz of the same keys, with DECA's landmark embedding.

    Takes the first `num_betas` of 300 shape and the first `num_expressions` of 100 expression directions, as Decaf does.
    landmarks: `landmark_embedding.npy` or .npz.
    neck: .npy of vertex indices or a mask; stiffness: .npy (V,). Raises BodyFileError naming file and key.
    """
    model = _read_model(path)
    _joints(path, model, HEAD_JOINTS)
    shape = _columns(path, model["shapedirs"], 0, num_betas)
    columns = model["shapedirs"].shape[2]
    if columns not in FLAME_LAYOUTS:
        raise BodyFileError(
            f"{path}: key 'shapedirs' has {columns} directions; FLAME of 2019, 2020 and 2023 has 400 (300 of shape, then 100 of "
            "expression), its short form 150 (100, then 50)"
        )
    expression = _columns(path, model["shapedirs"], FLAME_LAYOUTS[columns], num_expressions)
    body = _assemble("head", path, model, shape, expression, HEAD_JOINTS)
    fields = dict(vars(body))
    fields["keypoint_sets"] = {"ibug68": read_landmarks(landmarks, body)}
    fields["mirror"] = _mirror(body)
    fields["masks"] = {"eyes": (body.weights[:, 3:].sum(1) > 0.5).astype(np.float32)}
    if neck is not None:
        fields["masks"]["neck"] = _index_mask(neck, len(body.template))
    if stiffness is not None:
        fields["stiffness"] = _vector(stiffness).astype(np.float32)
    fields["levels"] = build_levels(body.template, body.faces, _HEAD_LEVELS)
    files = (path, landmarks, neck, stiffness)
    fields["provenance"] = dict(body.provenance) | {"files": [_fingerprint(file) for file in files if file is not None]}
    return BodyArrays(**fields).check(str(path))


def read_landmarks(path: Path, body: BodyArrays) -> KeypointSet:
    """The `full_lmk_*` entries of a landmark embedding as 68 points on the body's surface."""
    data = _read_keys(path)
    faces, weights = (_array(path, data, f"full_lmk_{part}") for part in ("faces_idx", "bary_coords"))
    faces, weights = faces.reshape(-1), weights.reshape(-1, 3)
    if faces.shape != (68,) or weights.shape != (68, 3):
        raise BodyFileError(
            f"{path}: keys 'full_lmk_*' have {len(faces)} faces and {len(weights)} weights, expected 68"
        )
    if faces.min() < 0 or faces.max() >= len(body.faces):
        raise BodyFileError(
            f"{path}: key 'full_lmk_faces_idx' names face {faces.max()}, the body has {len(body.faces)}"
        )
    if np.abs(weights.sum(1) - 1).max() > 1e-3:
        raise BodyFileError(f"{path}: key 'full_lmk_bary_coords': rows must sum to 1")
    zeros = np.zeros((68, 3))
    return KeypointSet(
        bone=np.full(68, -1, np.int32),
        template=zeros,
        shapedirs=np.zeros((68, 3, body.num_betas)),
        vertices=body.faces[faces.astype(np.int64)],
        weights=weights.astype(np.float64),
    )


def _read_model(path: Path) -> dict[str, NDArray[Any]]:
    data = _read_keys(path)
    model = {key: _array(path, data, key) for key in _REQUIRED}
    model |= {key: _array(path, data, key) for key in ("hands_mean", "hands_components") if key in data}
    vertices = len(model["v_template"])
    joints = model["weights"].shape[-1]
    expected = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, model["shapedirs"].shape[-1]),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "J_regressor": (joints, vertices),
        "weights": (vertices, joints),
        "kintree_table": (2, joints),
        "f": (len(model["f"]), 3),
    }
    for key, shape in expected.items():
        if model[key].shape != shape:
            raise BodyFileError(f"{path}: key {key!r} has shape {model[key].shape}, expected {shape}")
    return model


def _read_keys(path: Path) -> Mapping[str, Any]:
    """The dict in a .pkl, .npz or object .npy."""
    if path.suffix == ".npz":
        return read_members(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BodyFileError(f"{path}: cannot be read ({error.strerror})") from None
    if data[:6] == np.lib.format.MAGIC_PREFIX:
        data = _pickle_in_npy(path, data)
    content = load_pickle(data, path)
    if isinstance(content, np.ndarray) and content.shape == ():
        content = content.item()
    if not isinstance(content, dict):
        raise BodyFileError(f"{path}: holds a {type(content).__name__}, expected a dict of arrays")
    return content


def _pickle_in_npy(path: Path, data: bytes) -> bytes:
    """The pickle behind the header of an .npy of objects."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read(stream)
    except ValueError as error:
        raise BodyFileError(f"{path}: broken .npy header ({error})") from None
    if not dtype.hasobject:
        raise BodyFileError(f"{path}: a plain array, expected a dict saved with numpy")
    return stream.read()


def _array(path: Path, data: Mapping[str, Any], key: str) -> NDArray[Any]:
    if key not in data:
        raise BodyFileError(f"{path}: key {key!r} is missing; it has {', '.join(sorted(map(str, data)))}")
    stored = data[key]
    if isinstance(stored, PickledMember):
        # a sparse matrix or the like that numpy saved as an object
        stored = load_pickle(_pickle_in_npy(path, stored.data), path)
    if isinstance(stored, np.ndarray) and stored.dtype.hasobject and stored.shape == ():
        stored = stored.item()
    value = plain(stored, f"{path}: key {key!r}")
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise BodyFileError(f"{path}: key {key!r} holds {array.dtype}, expected numbers")
    if not np.isfinite(array).all():
        raise BodyFileError(f"{path}: key {key!r} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    return array


def _joints(path: Path, model: Mapping[str, NDArray[Any]], names: tuple[str, ...]) -> int:
    if (joints := model["weights"].shape[1]) != len(names):
        raise BodyFileError(
            f"{path}: key 'weights' has {joints} joints, expected {len(names)}; is this the other body's file?"
        )
    return int(joints)


def _columns(path: Path, shapedirs: NDArray[Any], first: int, count: int) -> NDArray[np.float64]:
    if shapedirs.shape[2] < first + count:
        raise BodyFileError(f"{path}: key 'shapedirs' has {shapedirs.shape[2]} directions, {first + count} are needed")
    return shapedirs[:, :, first : first + count].astype(np.float64)


def _assemble(
    kind: str,
    path: Path,
    model: Mapping[str, NDArray[Any]],
    shape: NDArray[np.float64],
    expression: NDArray[np.float64],
    names: tuple[str, ...],
) -> BodyArrays:
    regressor, template = model["J_regressor"].astype(np.float64), model["v_template"].astype(np.float64)
    parents = model["kintree_table"][0].astype(np.int64)
    parents[0] = -1  # stored as 2^32 - 1
    return BodyArrays(
        kind=kind,
        template=template,
        faces=model["f"].astype(np.int32),
        shapedirs=shape,
        weights=model["weights"].astype(np.float64),
        parents=parents.astype(np.int32),
        joint_names=names,
        joint_template=regressor @ template,
        joint_shapedirs=np.einsum("jv,vcs->jcs", regressor, shape),
        keypoint_sets={},
        expressiondirs=expression,
        joint_expressiondirs=np.einsum("jv,vce->jce", regressor, expression),
        posedirs=model["posedirs"].astype(np.float64),
        joint_regressor=regressor if kind == "hand" else None,
        provenance={"files": [_fingerprint(path)]},
    ).check(str(path))


def _hand_points(path: Path, body: BodyArrays, tips: tuple[int, ...]) -> KeypointSet:
    """16 joints and 5 tip vertices (thumb to pinky) in MediaPipe order."""
    if max(tips) >= len(body.template):
        raise BodyFileError(
            f"{path}: key 'v_template' has {len(body.template)} vertices, tip vertex {max(tips)} is not among them"
        )
    order = np.array(MEDIAPIPE_FROM_POINTS)
    tail = ((0, 5), (0, 0))
    vertices = np.zeros((21, 3), np.int32)
    vertices[16:] = np.array(tips)[:, None]
    weights = np.zeros((21, 3))
    weights[16:, 0] = 1
    return KeypointSet(
        bone=np.array([*range(16), -1, -1, -1, -1, -1], np.int32)[order],
        template=np.pad(body.joint_template, tail)[order],
        shapedirs=np.pad(body.joint_shapedirs, (*tail, (0, 0)))[order],
        vertices=vertices[order],
        weights=weights[order],
    )


def _mirror(body: BodyArrays) -> MirrorMap | None:
    """The exact left-right map of a symmetric template; None if it is not symmetric."""
    flipped = body.template * [-1, 1, 1]
    distance, opposite = cKDTree(body.template).query(flipped)
    if distance.max() > _MIRROR_TOLERANCE or (opposite[opposite] != np.arange(len(opposite))).any():
        return None
    return MirrorMap(opposite.astype(np.int32), np.array(HEAD_MIRROR_JOINTS, np.int32), np.array(IBUG_MIRROR, np.int32))


def _vector(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False)).ravel()
    except (OSError, ValueError) as error:
        raise BodyFileError(f"{path}: not an .npy of numbers ({error})") from None


def _index_mask(path: Path, count: int) -> NDArray[np.float32]:
    """(V,) 0/1 from an index list or a mask."""
    values, mask = _vector(path), np.zeros(count, np.float32)
    if values.dtype.kind != "b" and (
        values.dtype.kind not in "iu" or values.min(initial=0) < 0 or values.max(initial=0) >= count
    ):
        raise BodyFileError(f"{path}: expected vertex indices below {count}")
    if values.dtype.kind == "b" and len(values) != count:
        raise BodyFileError(f"{path}: a mask of {len(values)}, expected {count}")
    mask[values] = 1
    return mask


def _fingerprint(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
