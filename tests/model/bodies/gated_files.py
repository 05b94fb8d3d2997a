"""Model files in the exact formats of MANO and FLAME, with made-up numbers: Python-2 pickles with chumpy and scipy objects."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.sparse
import torch

from handface.model.bodies.load import load_arrays
from handface.model.fitting.distance import FitSurface


def ball(rings: int, segments: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A sphere, mirror-symmetric in x: (rings * segments + 2, 3) vertices and faces."""
    polar = np.pi * (np.arange(rings) + 1) / (rings + 1)
    around = 2 * np.pi * (np.arange(segments) + 0.5) / segments
    x, y = np.outer(np.sin(polar), np.sin(around)), np.outer(np.cos(polar), np.ones(segments))
    z = np.outer(np.sin(polar), np.cos(around))
    vertices = np.concatenate([np.stack([x, y, z], -1).reshape(-1, 3), [[0, 1, 0], [0, -1, 0]]]) * radius
    top, bottom, faces = rings * segments, rings * segments + 1, []
    for ring in range(rings - 1):
        for k in range(segments):
            a, b = ring * segments + k, ring * segments + (k + 1) % segments
            faces += [(a, a + segments, b), (b, a + segments, b + segments)]
    last = (rings - 1) * segments
    faces += [(top, k, (k + 1) % segments) for k in range(segments)]
    faces += [(bottom, last + (k + 1) % segments, last + k) for k in range(segments)]
    return vertices, np.array(faces)


def toy_model(vertices: np.ndarray, faces: np.ndarray, parents: list[int], directions: int) -> dict[str, Any]:
    """Arrays with the keys of a SMPL-family file."""
    rng = np.random.default_rng(len(parents))
    count, joints = len(vertices), len(parents)
    weights = rng.dirichlet(np.full(joints, 0.3), count)
    regressor = np.zeros((joints, count))
    for joint in range(joints):
        chosen = rng.choice(count, 20, replace=False)
        regressor[joint, chosen] = rng.dirichlet(np.ones(20))
    table = np.array([[2**32 - 1, *parents[1:]], range(joints)], np.uint32)
    return {
        "v_template": vertices,
        "f": faces.astype(np.uint32),
        "shapedirs": rng.normal(0, 0.002, (count, 3, directions)),
        "posedirs": rng.normal(0, 0.002, (count, 3, 9 * (joints - 1))),
        "J_regressor": regressor,
        "J": regressor @ vertices,
        "weights": weights,
        "kintree_table": table,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


@pytest.fixture(scope="session")
def mano_arrays() -> dict[str, Any]:
    """MANO's shapes: 778 vertices, 16 joints, 10 shape and 135 pose directions, 45 pose components."""
    parents = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]
    model = toy_model(*ball(97, 8, 0.08), parents, 10)
    rng = np.random.default_rng(7)
    components, _ = np.linalg.qr(rng.normal(size=(45, 45)))
    return model | {
        "hands_components": components,
        "hands_mean": rng.normal(0, 0.2, 45),
        "hands_coeffs": np.zeros((9, 45)),
    }


@pytest.fixture(scope="session")
def flame_arrays() -> dict[str, Any]:
    """FLAME's 5 joints and 400 shape directions on 602 vertices."""
    return toy_model(*ball(30, 20, 0.1), [-1, 0, 1, 1, 1], 400)


@dataclass
class Landmarks:
    """What the embedding file holds."""

    faces: np.ndarray
    weights: np.ndarray


@pytest.fixture(scope="session")
def landmark_arrays(flame_arrays: dict[str, Any]) -> Landmarks:
    rng = np.random.default_rng(5)
    faces = rng.integers(0, len(flame_arrays["f"]), (1, 68))
    return Landmarks(faces, rng.dirichlet(np.ones(3), (1, 68)).astype(np.float32))


def free_hand_as_mano(left: bool) -> dict[str, Any]:
    """The free hand in MANO's layout; the left one as MANO_LEFT.pkl is: shape directions are the right hand's."""
    body = load_arrays("free-hand")
    regressor = np.zeros((16, len(body.template)))
    for joint, place in enumerate(body.joint_template):
        regressor[joint, np.argsort(np.linalg.norm(body.template - place, axis=1))[:8]] = 1 / 8
    flip = np.array([-1.0 if left else 1.0, 1, 1])
    return {
        "v_template": np.asarray(body.template, float) * flip,
        "f": np.asarray(body.faces, np.uint32)[:, :: -1 if left else 1],
        "J_regressor": scipy.sparse.csc_array(regressor),
        "shapedirs": np.asarray(body.shapedirs[..., :10], float),
        "posedirs": np.zeros((len(body.template), 3, 135)),
        "weights": np.asarray(body.weights, float),
        "kintree_table": np.array([[2**32 - 1, *body.parents[1:]], range(16)], np.uint32),
        "hands_mean": np.zeros(45),
        "hands_components": np.eye(45),
    }


def free_head_as_flame() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The free head in FLAME's layout, and its keypoints as a landmark embedding: the nearest point of a triangle each."""
    body = load_arrays("free-head")
    points = body.keypoint_sets["ibug68"]
    places = (body.template[points.vertices] * points.weights[..., None]).sum(1)
    nearest = FitSurface(body.template, body.faces).closest(places)
    regressor = np.zeros((5, len(body.template)))
    for joint, place in enumerate(body.joint_template):
        regressor[joint, np.argsort(np.linalg.norm(body.template - place, axis=1))[:8]] = 1 / 8
    directions = np.zeros((len(body.template), 3, 400))
    directions[..., :100], directions[..., 300:350] = body.shapedirs, body.expressiondirs[..., :50]
    model = {
        "v_template": np.asarray(body.template, float),
        "f": np.asarray(body.faces, np.uint32),
        "J_regressor": scipy.sparse.csc_array(regressor),
        "shapedirs": directions,
        "posedirs": np.zeros((len(body.template), 3, 36)),
        "weights": np.asarray(body.weights, float),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)], np.uint32),
    }
    embedding = {"full_lmk_faces_idx": nearest.face[None], "full_lmk_bary_coords": nearest.weights[None]}
    return model, embedding


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 wrote it: byte strings as BINSTRING, old module names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_binstring(self, data: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(data)

    dispatch[bytes] = save_binstring


@pytest.fixture
def write_python2() -> Iterator[Callable[[Path, Any], Path]]:
    """write(path, value): value as a Python-2 pickle; a chumpy stand-in can be pickled meanwhile."""

    def write(path: Path, value: Any) -> Path:
        buffer = io.BytesIO()
        Python2Pickler(buffer, protocol=2).dump(value)
        data = buffer.getvalue()
        for new, old in (
            (b"numpy._core.multiarray", b"numpy.core.multiarray"),
            (b"scipy.sparse._csc", b"scipy.sparse.csc"),
        ):
            data = data.replace(b"c" + new + b"\n", b"c" + old + b"\n")
        path.write_bytes(data)
        return path

    yield write


@pytest.fixture
def chumpy() -> Iterator[Callable[..., Any]]:
    """chumpy(array) -> a pickleable `chumpy.ch.Ch`; chumpy(array, keep=n) -> a `Select` of the first n on the last axis."""
    classes = {}
    for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select")):
        sys.modules[module] = types.ModuleType(module)
        classes[name] = type(name, (), {"__module__": module, "__qualname__": name})
        setattr(sys.modules[module], name, classes[name])
    sys.modules["chumpy"] = types.ModuleType("chumpy")

    def make(array: np.ndarray, keep: int | None = None) -> Any:
        whole = classes["Ch"]()
        whole.__dict__.update(x=array, _dirty_vars={"x"}, _itr=None)
        if keep is None:
            return whole
        select = classes["Select"]()
        index = np.arange(array.size).reshape(array.shape)[..., :keep]
        select.__dict__.update(a=whole, idxs=index.ravel(), preferred_shape=index.shape)
        return select

    yield make
    for module in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        del sys.modules[module]


@pytest.fixture
def mano_pkl(tmp_path: Path, mano_arrays: dict, chumpy: Callable, write_python2: Callable) -> Path:
    """MANO_RIGHT.pkl: shapedirs a chumpy Select of 10 out of 20, J_regressor a csc_matrix."""
    padded = np.concatenate([mano_arrays["shapedirs"], np.ones_like(mano_arrays["shapedirs"])], -1)
    sparse = scipy.sparse.csc_matrix(mano_arrays["J_regressor"])
    content = mano_arrays | {"shapedirs": chumpy(padded, keep=10), "J_regressor": sparse}
    return write_python2(tmp_path / "MANO_RIGHT.pkl", content)


@pytest.fixture
def flame_pkl(tmp_path: Path, flame_arrays: dict, chumpy: Callable, write_python2: Callable) -> Path:
    """generic_model.pkl: shapedirs a chumpy Ch, J_regressor a csc_matrix."""
    sparse = scipy.sparse.csc_matrix(flame_arrays["J_regressor"])
    content = flame_arrays | {"shapedirs": chumpy(flame_arrays["shapedirs"]), "J_regressor": sparse}
    return write_python2(tmp_path / "generic_model.pkl", content)


@pytest.fixture
def landmark_npy(tmp_path: Path, landmark_arrays: Landmarks) -> Path:
    """landmark_embedding.npy: an object array of a dict, two of whose entries are torch tensors."""
    content = {
        "static_lmk_faces_idx": landmark_arrays.faces[0, 17:],
        "static_lmk_bary_coords": landmark_arrays.weights[0, 17:].astype(np.float64),
        "dynamic_lmk_faces_idx": torch.zeros(79, 17, dtype=torch.int64),
        "dynamic_lmk_bary_coords": torch.ones(79, 17, 3) / 3,
        "full_lmk_faces_idx": landmark_arrays.faces,
        "full_lmk_bary_coords": landmark_arrays.weights,
    }
    path = tmp_path / "landmark_embedding.npy"
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path
