"""The body as a function: exact at zero, rigid under rigid motion, differentiable, strict about its inputs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from handface.model.bodies import DECAF, Convention, ParametricBody, load_body
from handface.model.bodies.rotation import axis_angle_to_matrix, mirror_axis_angle

BODIES = {name: load_body(name, dtype=torch.float64) for name in ("free-hand", "free-head")}
DECAF_BODIES = {name: load_body(name, "decaf", dtype=torch.float64) for name in BODIES}
seeds = st.integers(0, 2**31)


def inputs(body: ParametricBody, batch: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random parameters of plausible size."""
    rng = np.random.default_rng(seed)
    values = {
        "betas": rng.normal(0, 1, (batch, body.arrays.num_betas)),
        "pose": rng.normal(0, 0.4, (batch, body.num_pose)),
        "global_orient": rng.normal(0, 1.5, (batch, 3)),
        "transl": rng.normal(0, 0.5, (batch, 3)),
    }
    if body.arrays.num_expressions:
        values["expression"] = rng.uniform(0, 0.5, (batch, body.arrays.num_expressions))
    return {name: torch.from_numpy(value) for name, value in values.items()}


@pytest.mark.parametrize("name", BODIES)
def test_shapes_dtypes_and_counts(name: str) -> None:
    body, arrays = BODIES[name], BODIES[name].arrays
    output = body(**inputs(body, 3))
    count, points = len(arrays.template), 21 if arrays.kind == "hand" else 68
    assert output.vertices.shape == (3, count, 3)
    assert output.joints.shape == (3, len(arrays.parents), 3)
    assert output.keypoints.shape == (3, points, 3)
    assert output.transforms.shape == (3, len(arrays.parents), 4, 4)
    assert output.vertices.dtype == torch.float64
    single = load_body(name)
    close = single(**{key: value.float() for key, value in inputs(body, 3).items()})
    assert close.vertices.dtype == torch.float32
    assert (close.vertices - output.vertices).abs().max() < 1e-5


@settings(max_examples=15, deadline=None)
@given(seed=seeds, name=st.sampled_from(sorted(BODIES)))
def test_zero_pose_is_template_plus_shape(seed: int, name: str) -> None:
    body, arrays = BODIES[name], BODIES[name].arrays
    betas = inputs(body, 1, seed)["betas"]
    output = body(betas=betas)
    assert np.allclose(
        output.vertices[0], arrays.template + arrays.shapedirs.astype(float) @ betas[0].numpy(), atol=1e-12
    )
    assert np.allclose(
        output.joints[0], arrays.joint_template + arrays.joint_shapedirs.astype(float) @ betas[0].numpy(), atol=1e-12
    )


@settings(max_examples=15, deadline=None)
@given(seed=seeds, name=st.sampled_from(sorted(BODIES)), decaf=st.booleans())
def test_global_rotation_turns_everything_rigidly(seed: int, name: str, decaf: bool) -> None:
    """Two turns one after the other are the turn of the product, about the pivot; distances never change."""
    body = (DECAF_BODIES if decaf else BODIES)[name]
    values = inputs(body, 1, seed)
    turned = body(**values)
    still = body(**(values | {"global_orient": torch.zeros(1, 3), "transl": torch.zeros(1, 3)}))
    pivot = still.vertices.mean(1, keepdim=True) if body.convention.pivot == "vertex_centroid" else still.joints[:, :1]
    turn = torch.from_numpy(Rotation.from_rotvec(values["global_orient"].numpy()).as_matrix())
    for field in ("vertices", "joints", "keypoints"):
        expected = (getattr(still, field) - pivot) @ turn.mT + pivot + values["transl"][:, None]
        assert torch.allclose(getattr(turned, field), expected, atol=1e-10), field
    by_rigid = still.vertices @ turned.rigid[:, :3, :3].mT + turned.rigid[:, None, :3, 3]
    assert torch.allclose(turned.vertices, by_rigid, atol=1e-10)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("at_zero", [False, True])
def test_gradients_match_finite_differences(name: str, at_zero: bool) -> None:
    """Also at the rest pose, where a naive Rodrigues formula has none."""
    body = (DECAF_BODIES if name == "free-head" else BODIES)[name]
    values = inputs(body, 1)
    values |= {"betas": values["betas"][:, :4]}
    if "expression" in values:
        values["expression"] = values["expression"][:, :3]
    if at_zero:
        values = {key: torch.zeros_like(value) for key, value in values.items()}
    order = list(values)
    pick = torch.randperm(body.num_vertices, generator=torch.Generator().manual_seed(0))[:5]

    def loss(*flat: torch.Tensor) -> torch.Tensor:
        output = body(**dict(zip(order, flat, strict=True)))
        return torch.cat([output.vertices[:, pick], output.joints, output.keypoints[:, ::7]], 1)

    assert torch.autograd.gradcheck(loss, [values[key].requires_grad_() for key in order], eps=1e-6, atol=1e-7)


def test_batches_of_one_are_broadcast_and_fewer_betas_are_leading_ones() -> None:
    body = BODIES["free-head"]
    values = inputs(body, 4)
    values["betas"] = values["betas"][:1, :7]
    padded = torch.nn.functional.pad(values["betas"], (0, 93)).expand(4, -1)
    assert torch.equal(body(**values).vertices, body(**(values | {"betas": padded})).vertices)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pose": torch.zeros(1, 48)}, r"pose has shape \(1, 48\), this hand takes \(B, 45\)"),
        ({"betas": torch.zeros(1, 11)}, r"betas has shape \(1, 11\), this hand takes \(B, <= 10\)"),
        ({"expression": torch.zeros(1, 1)}, r"expression .* \(B, <= 0\)"),
        ({"transl": torch.zeros(3)}, r"transl has shape \(3,\)"),
        ({"betas": torch.zeros(2, 10), "transl": torch.zeros(3, 3)}, "betas has batch 2, the others 3"),
    ],
)
def test_wrong_inputs_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BODIES["free-hand"](**wrong)


def test_fingers_curl_into_the_palm() -> None:
    """Positive turns about the flexion axes bring every tip towards the palm's side (-y) and closer to the wrist."""
    body = BODIES["free-hand"]
    angle = np.repeat([0.6, 0.6, 0.6, 0.6, 0.4], 3)  # index, middle, pinky, ring, thumb
    pose = torch.from_numpy((body.arrays.flexion_axes * angle[:, None]).reshape(1, 45))
    open_hand, bent = body().keypoints[0], body(pose=pose).keypoints[0]
    tips = [4, 8, 12, 16, 20]
    assert (bent[tips, 1] < open_hand[tips, 1] - 0.005).all()
    assert (bent[tips[1:]].norm(dim=1) < 0.9 * open_hand[tips[1:]].norm(dim=1)).all()
    assert torch.allclose(bent[0], open_hand[0])


def test_jaw_opens_the_mouth_and_moves_nothing_above_it() -> None:
    body = DECAF_BODIES["free-head"]
    closed, opened = body(), body(pose=torch.tensor([[0, 0, 0, math.radians(20), 0, 0]]))
    gap = [(output.keypoints[0, 62] - output.keypoints[0, 66]).norm() for output in (closed, opened)]
    assert gap[1] - gap[0] > 0.01
    assert torch.allclose(opened.keypoints[0, 17:31], closed.keypoints[0, 17:31], atol=1e-4), "brows and nose bridge"
    assert opened.keypoints[0, 8, 1] < closed.keypoints[0, 8, 1] - 0.01, "the chin goes down"


def test_eyes_turn_about_their_centres() -> None:
    body = BODIES["free-head"]
    pose = torch.zeros(1, 12)
    pose[0, 6:9] = torch.tensor([0.0, 0.3, 0.0])  # left eye
    moved = (body(pose=pose).vertices - body().vertices)[0].norm(dim=1) > 1e-6
    left = (body.mask("eyes") > 0) & (body.template[:, 0] > 0)
    assert torch.equal(moved & (body.mask("eyes") > 0), left & moved) and moved[left].any()


def test_tip_length_and_keypoint_sets() -> None:
    arrays = BODIES["free-hand"].arrays
    shortened = ParametricBody(arrays, DECAF["hand"], torch.float64)().keypoints[0]
    whole = BODIES["free-hand"]().keypoints[0]
    assert torch.allclose(shortened[8], whole[7] + 0.7 * (whole[8] - whole[7]))
    assert torch.equal(shortened[:4], whole[:4])
    mediapipe = ParametricBody(arrays, Convention(keypoints="mediapipe"), torch.float64)
    shift = (mediapipe().keypoints[0] - whole)[0]
    assert 0.010 < shift.norm() < 0.025 and shift[0] < -0.009, "MediaPipe's wrist lies 10-25 mm towards the fingers"
    big = torch.zeros(1, 10, dtype=torch.float64)
    big[0, 0] = 2.0
    palm, length = BODIES["free-hand"](betas=big).joints[0], BODIES["free-hand"]().joints[0]
    growth = (palm[4] - palm[0]).norm() / (length[4] - length[0]).norm()
    grown = mediapipe(betas=big).keypoints[0, 0] - BODIES["free-hand"](betas=big).keypoints[0, 0]
    assert torch.allclose(grown.norm() / shift.norm(), growth, rtol=0.01), "offsets grow with the hand"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Convention(pose_joints=(0, 2)), "leaves no second root rotation"),
        (lambda: Convention(pose_pca=6, pose_joints=(1,)), "pose_pca weighs all joints"),
        (lambda: load_body("free-hand", Convention(flat_mean=False)), "the free bodies have none"),
        (
            lambda: load_body("free-hand", Convention(keypoints="coco")),
            "no keypoint set 'coco'; one of anatomical, mediapipe",
        ),
        (lambda: load_body("free-head", Convention(tip_length=0.7)), "tip_length is for the 21 keypoints"),
        (lambda: load_body("free-head", Convention(pose_joints=(7,))), "the body has joints 0..4"),
        (lambda: load_body("free-hand", "maya"), "no convention 'maya'; one of smplx"),
        (lambda: load_body("free-head", side="left"), "only a hand has sides"),
        (
            lambda: load_body(Path("none.npz")),
            "none.npz: no such file; give a body .npz or one of free-hand, free-head",
        ),
    ],
)
def test_wrong_conventions_are_named(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-6, 6), min_size=3, max_size=3), st.sampled_from([1.0, 1e-3, 1e-9]))
def test_rotation_matrices_are_scipys(vector: list[float], scale: float) -> None:
    axis_angle = torch.tensor([vector], dtype=torch.float64) * scale
    matrix = axis_angle_to_matrix(axis_angle)[0]
    assert np.allclose(matrix, Rotation.from_rotvec(axis_angle[0].numpy()).as_matrix(), atol=1e-14)
    flip = torch.diag(torch.tensor([-1.0, 1, 1], dtype=torch.float64))
    assert torch.allclose(axis_angle_to_matrix(mirror_axis_angle(axis_angle))[0], flip @ matrix @ flip, atol=1e-14)
