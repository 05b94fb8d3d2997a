"""Mirroring x -> -x: the left hand, and a head whose two sides are exchanged."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.model.bodies import DECAF, BodyArrays, ParametricBody, load_arrays, load_body
from handface.model.bodies.mirror import mirror_arrays, mirror_head_parameters
from handface.model.bodies.readers import read_mano
from handface.model.bodies.rotation import mirror_axis_angle

FLIP = torch.tensor([-1.0, 1, 1], dtype=torch.float64)
RIGHT, LEFT = (load_body("free-hand", side=side, dtype=torch.float64) for side in ("right", "left"))
HEAD = load_body("free-head", "decaf", dtype=torch.float64)


def random(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same(one: Any, two: Any, where: str = "") -> None:
    if isinstance(one, np.ndarray):
        assert np.array_equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b, where)
    elif hasattr(one, "__dataclass_fields__"):
        for item in fields(one):
            assert_same(getattr(one, item.name), getattr(two, item.name), f"{where}.{item.name}")
    else:
        assert one == two, where


def check_left_hand(right: ParametricBody, left: ParametricBody, seed: int) -> None:
    betas, pose = random((2, 10), seed), 0.5 * random((2, 45), seed + 1)
    orient, transl = random((2, 3), seed + 2), random((2, 3), seed + 3)
    one = right(betas, pose, orient, transl)
    two = left(betas, mirror_axis_angle(pose), mirror_axis_angle(orient), transl * FLIP)
    for field in ("vertices", "joints", "keypoints"):
        assert torch.allclose(getattr(one, field) * FLIP, getattr(two, field), atol=1e-10), field


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_left_hand_is_the_mirrored_right_hand(seed: int) -> None:
    check_left_hand(RIGHT, LEFT, seed)


def test_pose_correctives_are_mirrored_too(mano_pkl: Path) -> None:
    arrays = read_mano(mano_pkl)
    assert arrays.posedirs.shape[2] == 135
    bodies = [ParametricBody(a, DECAF["hand"], torch.float64) for a in (arrays, mirror_arrays(arrays))]
    check_left_hand(*bodies, seed=3)


def test_mirroring_twice_changes_nothing(mano_pkl: Path) -> None:
    for arrays in (load_arrays("free-hand"), load_arrays("free-head"), read_mano(mano_pkl)):
        assert_same(mirror_arrays(mirror_arrays(arrays)), arrays)


def test_left_hand_keeps_its_normals_outwards() -> None:
    def volume(body: ParametricBody) -> float:
        faces = np.concatenate([body.arrays.faces, body.arrays.caps])
        a, b, c = (body.arrays.template[faces[:, k]].astype(float) for k in range(3))
        return float((a * np.cross(b, c)).sum() / 6)

    assert volume(RIGHT) > 0
    assert np.isclose(volume(RIGHT), volume(LEFT))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_head_parameters_mirror_to_the_mirrored_head(seed: int) -> None:
    betas, expression = random((2, 100), seed), 0.3 * random((2, 51), seed + 1).abs()
    pose, orient = 0.3 * random((2, 6), seed + 2), random((2, 3), seed + 3)
    arrays: BodyArrays = HEAD.arrays
    assert arrays.mirror is not None
    one = HEAD(betas, pose, orient, expression=expression)
    mirrored = mirror_head_parameters(arrays, betas, expression, pose, HEAD.pose_joints)
    two = HEAD(mirrored[0], mirrored[2], mirror_axis_angle(orient), expression=mirrored[1])
    for field, order in (("vertices", "vertices"), ("joints", "joints"), ("keypoints", "keypoints")):
        opposite = getattr(two, field)[:, getattr(arrays.mirror, order).astype(np.int64)]
        assert torch.allclose(getattr(one, field) * FLIP, opposite, atol=2e-6), field
    again = mirror_head_parameters(arrays, *(mirrored[i] for i in (0, 1, 2)), HEAD.pose_joints)
    assert all(torch.equal(a, b) for a, b in zip(again, (betas, expression, pose), strict=True))
