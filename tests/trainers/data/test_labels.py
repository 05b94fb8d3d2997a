"""Labels move with the picture: mirror, turn, zoom and shift, in 2D and 3D, for every convention."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.model.bodies import load_body
from handface.model.bodies.names import IBUG_MIRROR
from handface.pipeline.contract.sample import LEFT, RIGHT, KeypointDepth, Labels, Sample, encode, encode_labels
from handface.trainers.batch import Batch
from handface.trainers.data import AugmentConfig, DataConfig, DatasetConfig, make_loader
from handface.trainers.data.augment.geometry import flip, move_keypoints, resize, similarity, turn_about_camera
from handface.trainers.data.collate import collate
from handface.trainers.data.decode import Decoded, Draw, SampleDecoder

SIDE, SIZE = 96, 64
CAMERA = (
    180.0,
    50.0,
    40.0,
)  # pixels per metre and offset of the weak-perspective camera that the test's labels are seen with


def drawn(angle: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0), flip: bool = False) -> Draw:
    return Draw(angle, scale, shift, flip, False, False, np.random.default_rng(0))


@pytest.fixture(scope="module")
def decoder() -> SampleDecoder:
    return SampleDecoder(DataConfig((DatasetConfig("x", ("y",)),), image_size=SIZE))


def t(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32).reshape(1, -1))


def pose_head(labels: Labels, decaf: bool) -> Any:
    return load_body("free-head", "decaf" if decaf else "free")(
        t(labels.head_betas), t(labels.head_pose), t(labels.head_global_orient), t(labels.head_transl),
        t(labels.head_expression),
    )  # fmt: skip


def seen_weakly(labels: Labels, decaf: bool) -> Labels:
    """The labels with the 2D keypoints of a weak-perspective camera; `decaf`: with the head's pose cut to root and jaw."""
    if decaf:
        pose = np.stack([[0.05, -0.1, 0.02], labels.head_pose[1]]).astype(np.float32)
        labels = replace(labels, head_pose=pose, head_model="free-head-decaf")
    side = "left" if labels.hand_side[0] == LEFT else "right"
    hand = load_body("free-hand", "free", side)(
        t(labels.hand_betas), t(labels.hand_pose), t(labels.hand_global_orient), t(labels.hand_transl)
    )
    scale, *offset = CAMERA

    def project(points: torch.Tensor) -> np.ndarray:
        pixels = scale * points[0].numpy()[:, :2] + offset
        return np.concatenate([pixels, np.ones((len(pixels), 1))], 1).astype(np.float32)

    face = project(pose_head(labels, decaf).keypoints)
    return replace(labels, face_keypoints_2d=face, hand_keypoints_2d=project(hand.keypoints)[None])


def decode(decoder: SampleDecoder, sample: Sample, labels: Labels, draw: Draw) -> tuple[Decoded, Batch]:
    members = {"jpg": sample.image, "safetensors": encode_labels(labels)}
    decoded = decoder("key", 0, members, draw)
    return decoded, collate([decoded], decoder.hand, decoder.head)


def posed(batch: Batch) -> tuple[Any, Any]:
    """Hand and head that the batch's parameters give: always right hands."""
    hand, head = batch.hand, batch.head
    decaf = bool(batch.decaf_head[0])
    pose = head.pose[:, :6] if decaf else head.pose
    return load_body("free-hand", "free")(hand.betas, hand.pose, hand.global_orient, hand.transl), load_body(
        "free-head", "decaf" if decaf else "free"
    )(head.betas, pose, head.global_orient, head.transl, head.expression)


def test_left_and_right_are_both_there(scenes: list[Sample]) -> None:
    assert {int(s.labels.hand_side[0]) for s in scenes} == {LEFT, RIGHT}


@pytest.mark.parametrize("decaf", [False, True])
@pytest.mark.parametrize(
    "draw", [drawn(), drawn(0.4), drawn(-1.2, 1.2, (3.0, -5.0)), drawn(3.0, 0.8)], ids=["plain", "turn", "all", "half"]
)
def test_3d_labels_project_onto_2d_labels(
    decoder: SampleDecoder, scenes: list[Sample], draw: Draw, decaf: bool
) -> None:
    """Turned, zoomed, shifted and mirrored 3D labels, seen by the camera that zoom and shift alone changed."""
    zoom = draw.scale * SIZE / SIDE
    for sample in scenes:
        labels = seen_weakly(sample.labels, decaf)
        decoded, batch = decode(decoder, sample, labels, draw)
        assert decoded.mirrored == (labels.hand_side[0] == LEFT) and batch.has_mesh.all()
        hand, head = posed(batch)
        points = torch.cat([head.keypoints[0], hand.keypoints[0]])[:, :2].double().numpy()
        stored = torch.cat([batch.face_keypoints_2d[0], batch.hand_keypoints_2d[0]])[:, :2].double().numpy()
        offset = stored - CAMERA[0] * zoom * points
        assert np.ptp(offset, axis=0).max() < 2e-3  # pixels: one shift explains all 89 points


def test_mirrored_labels_pose_the_mirror_image(decoder: SampleDecoder, scenes: list[Sample]) -> None:
    """To 1e-5 m in every keypoint and vertex, for both parts."""
    flipped = torch.tensor([-1.0, 1.0, 1.0])
    for sample in scenes:
        labels = sample.labels
        _, batch = decode(decoder, sample, labels, drawn())
        hand, head = posed(batch)
        if labels.hand_side[0] == RIGHT:
            assert np.abs(hand.keypoints[0].numpy() - labels.hand_keypoints_3d).max() < 1e-5
            continue
        assert np.abs((hand.keypoints[0] * flipped).numpy() - labels.hand_keypoints_3d).max() < 1e-5
        mirrored = (head.keypoints[0] * flipped)[list(IBUG_MIRROR)].numpy()
        assert np.abs(mirrored - labels.head_keypoints_3d).max() < 1e-5
        before = pose_head(labels, False).vertices[0]
        assert ((head.vertices[0] * flipped)[decoder.head.mirror] - before).abs().max() < 1e-5


def test_contact_and_deformation_change_sides(decoder: SampleDecoder, scenes: list[Sample]) -> None:
    opposite = decoder.head.mirror
    for sample in scenes:
        labels = sample.labels
        _, batch = decode(decoder, sample, labels, drawn(0.3))
        contact = np.unpackbits(labels.head_contact, count=decoder.head.vertices)
        dense = np.zeros((decoder.head.vertices, 3), np.float32)
        dense[labels.head_deformation_rows] = labels.head_deformation
        if labels.hand_side[0] == LEFT:
            contact, dense = contact[opposite], dense[opposite] * [-1, 1, 1]
        np.testing.assert_array_equal(batch.head_contact[0].numpy(), contact)
        np.testing.assert_allclose(batch.head_deformation[0].numpy(), dense)
        hand = np.unpackbits(labels.hand_contact, count=decoder.hand.vertices)
        np.testing.assert_array_equal(batch.hand_contact[0].numpy(), hand)


def test_pictures_move_as_the_keypoints_do(decoder: SampleDecoder) -> None:
    """A white dot in the picture and a keypoint on it stay together, through decoding at a half, mirror, turn, zoom and shift."""
    import simplejpeg

    rng = np.random.default_rng(1)
    for side in (64, 96, 200, 512):
        for left in (False, True):
            centre = rng.uniform(0.35, 0.65, 2) * side
            y, x = np.mgrid[:side, :side]
            blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * (side / 30) ** 2))
            picture = np.repeat((blob * 255).astype(np.uint8)[..., None], 3, 2)
            face = np.concatenate([np.tile(centre, (68, 1)), np.ones((68, 1))], 1).astype(np.float32)
            labels = Labels(face_keypoints_2d=face, hand_side=np.array([LEFT if left else RIGHT], np.uint8))
            members = {"jpg": simplejpeg.encode_jpeg(picture, 95), "safetensors": encode_labels(labels)}
            decoded = decoder("key", 0, members, drawn(0.7, 1.1, (4.0, -3.0)))
            seen = decoded.image[..., 0].astype(float)
            weights = np.where(seen > 30, seen, 0)
            row, column = (np.mgrid[:SIZE, :SIZE] * weights).sum((1, 2)) / weights.sum()
            np.testing.assert_allclose([column, row], decoded.face[0, :2], atol=0.35)


def test_sides_and_order_of_mirrored_2d_labels(decoder: SampleDecoder, make_sample: Any) -> None:
    sample = make_sample(4, side=SIDE)
    visible = (np.arange(89) % 3 > 0).astype(np.uint8)
    values = np.stack([np.arange(89), np.ones(89)], 1).astype(np.float32)
    wild = replace(sample.labels, keypoint_visibility=visible, keypoint_depth={"toy": KeypointDepth(values, "affine")})
    right, _ = decode(decoder, sample, wild, drawn())
    left, _ = decode(decoder, sample, replace(wild, hand_side=np.array([LEFT], np.uint8)), drawn())
    assert left.mirrored and not right.mirrored
    np.testing.assert_allclose(left.face[:, 0], SIZE - 1 - right.face[list(IBUG_MIRROR), 0], atol=1e-4)
    np.testing.assert_allclose(left.face[:, 1], right.face[list(IBUG_MIRROR), 1], atol=1e-4)
    np.testing.assert_allclose(left.hand[:, 0], SIZE - 1 - right.hand[:, 0], atol=1e-4)
    np.testing.assert_array_equal(left.depth[:68], right.depth[list(IBUG_MIRROR)])
    np.testing.assert_array_equal(left.depth[68:], right.depth[68:])
    np.testing.assert_array_equal(left.visibility[:68], right.visibility[list(IBUG_MIRROR)])
    difference = np.abs(left.image.astype(int) - right.image[:, ::-1].astype(int))
    assert difference.mean() < 1  # the same picture, flipped


def test_points_that_leave_the_picture_are_not_seen(decoder: SampleDecoder, make_sample: Any) -> None:
    sample = make_sample(4, side=SIDE)
    decoded, _ = decode(decoder, sample, sample.labels, drawn(shift=(0.6 * SIZE, 0.0)))
    points = np.concatenate([decoded.face, decoded.hand])
    outside = points[:, 0] > SIZE - 0.5
    assert outside.any() and not outside.all()
    np.testing.assert_array_equal(decoded.visibility, np.where(outside, 0, 1))


def test_unknown_points_stay_unknown(decoder: SampleDecoder, make_sample: Any) -> None:
    sample = make_sample(4, side=SIDE)
    face = sample.labels.face_keypoints_2d.copy()
    face[5] = 0
    decoded, _ = decode(decoder, sample, replace(sample.labels, face_keypoints_2d=face), drawn(0.2))
    assert not decoded.face[5].any() and decoded.face[6, 2] > 0
    nothing, batch = decode(decoder, sample, Labels(), drawn(0.2))
    assert not nothing.face.any() and not nothing.hand.any() and nothing.depth_kind == -1
    assert nothing.visibility.all() and not batch.has_mesh.any()


def test_pictures_without_a_hand_are_mirrored_by_chance(decoder: SampleDecoder, make_sample: Any) -> None:
    sample = make_sample(4, side=SIDE)
    alone = replace(sample.labels, hand_keypoints_2d=None, hand_side=None)
    assert decode(decoder, sample, alone, drawn(flip=True))[0].mirrored
    assert not decode(decoder, sample, alone, drawn(flip=False))[0].mirrored
    assert not decode(decoder, sample, sample.labels, drawn(flip=True))[0].mirrored  # a right hand stays one


def test_preferred_depth(make_sample: Any) -> None:
    sample = make_sample(4, side=SIDE)
    values = np.ones((89, 2), np.float32)
    values[3] = np.nan
    sources = {
        "b": KeypointDepth(values, "metric"),
        "a": KeypointDepth(values * 2, "affine"),
        "c": KeypointDepth(values * 3, "affine-per-part"),
    }
    labels = replace(sample.labels, keypoint_depth=sources)
    for wanted, kind in (((), 1), (("b",), 3), (("none", "c", "b"), 2), (("none",), 1)):
        config = DataConfig((DatasetConfig("x", ("y",)),), image_size=SIZE, depth_sources=wanted)
        decoded, _ = decode(SampleDecoder(config), sample, labels, drawn())
        assert decoded.depth_kind == kind
        assert not decoded.depth[3].any() and decoded.depth[4, 0] > 0  # what is not finite is not valid


@pytest.mark.parametrize(
    "change", [{"hand_model": "mano"}, {"head_model": "flame-decaf"}, {"head_model": None}, {"hand_model": "free-head"}]
)
def test_labels_of_another_body_are_left_out_and_counted(
    scenes: list[Sample], change: dict[str, Any], tmp_path: Any, write_tar: Any, config: Any
) -> None:
    sample = replace(scenes[0], labels=replace(scenes[0].labels, **change))
    loader = make_loader(config(write_tar(tmp_path / "a.tar", [sample]), batch_size=3))
    batch = next(iter(loader))
    assert not batch.has_mesh.any() and not batch.has_contact.any() and not batch.has_deformation.any()
    assert batch.face_keypoints_2d[..., 2].all()
    ((remark, count),) = loader.remarks.items()
    assert count == 3 and "3D labels of" in remark and ("free-head" in remark or "free-hand" in remark)


def test_labels_that_do_not_fit_the_body_they_name_are_errors(decoder: SampleDecoder, scenes: list[Sample]) -> None:
    from handface.pipeline.contract.sample import SampleError

    labels = scenes[0].labels
    wrong = (
        ({"hand_contact": labels.hand_contact[:-1]}, "hand_contact has"),
        ({"hand_betas": np.ones(11, np.float32)}, "hand_betas has 11"),
        ({"head_pose": labels.head_pose[:2]}, "head_pose has 6"),
        ({"head_transl": np.full(3, np.nan, np.float32)}, "not finite"),
        (
            {"head_deformation_rows": np.array([9999], np.int32), "head_deformation": np.zeros((1, 3), np.float16)},
            "reach 9999",
        ),
    )
    for change, message in wrong:
        with pytest.raises(SampleError, match=message):
            decode(decoder, scenes[0], replace(labels, **change), drawn())
    fits = replace(labels, head_betas=np.zeros(130, np.float32), hand_betas=np.ones(4, np.float32))
    _, batch = decode(
        decoder, scenes[0], fits, drawn()
    )  # zeros beyond the basis, or fewer coefficients, are the same shape
    assert batch.hand.betas[0].tolist() == [1.0] * 4 + [0.0] * 6


def test_a_head_that_cannot_be_mirrored_loses_the_3d_labels_of_left_hands(scenes: list[Sample]) -> None:
    config = DataConfig((DatasetConfig("x", ("y",)),), image_size=SIZE)
    for has_map in (True, False):
        decoder = SampleDecoder(config)
        decoder.head.mirrors_parameters = False
        if not has_map:
            decoder.head.mirror = None
        for sample in scenes:
            decoded, batch = decode(decoder, sample, sample.labels, drawn(0.1))
            left = sample.labels.hand_side[0] == LEFT
            assert batch.has_mesh.item() == batch.has_deformation.item() == (not left)
            assert batch.has_contact.item() == (has_map or not left)
            assert bool(decoded.remarks) == left


def test_decaf_heads_are_padded_and_marked(decoder: SampleDecoder, scenes: list[Sample]) -> None:
    labels = seen_weakly(scenes[0].labels, decaf=True)
    _, batch = decode(decoder, scenes[0], labels, drawn())
    assert batch.decaf_head.tolist() == [True] and batch.head.pose.shape == (1, 12)
    assert batch.head.pose[0, :6].any() and not batch.head.pose[0, 6:].any()


def test_the_centroid_of_a_decaf_head_needs_few_vertices(decoder: SampleDecoder) -> None:
    generator = torch.Generator().manual_seed(0)
    betas, expression = torch.randn(5, 100, generator=generator), torch.rand(5, 51, generator=generator)
    pose = 0.4 * torch.randn(5, 6, generator=generator)
    expected = load_body("free-head", "decaf")(betas, pose, expression=expression).vertices.mean(1)
    padded = torch.nn.functional.pad(pose, (0, 6))
    found = decoder.head.pivot(betas, expression, padded, torch.ones(5, dtype=torch.bool))
    assert (found - expected).abs().max() < 1e-6
    root = decoder.head.pivot(betas, expression, padded, torch.zeros(5, dtype=torch.bool))
    joints = load_body("free-head")(betas, expression=expression).joints[:, 0]
    assert (root - joints).abs().max() < 1e-6


@settings(max_examples=50, deadline=None)
@given(st.floats(-3.1, 3.1), st.lists(st.floats(-1.5, 1.5), min_size=9, max_size=9))
def test_turning_parameters_turns_points(angle: float, numbers: list[float]) -> None:
    from scipy.spatial.transform import Rotation

    orient, transl, pivot = np.array(numbers, np.float32).reshape(3, 1, 3)
    point = np.array([0.1, -0.2, 0.3])

    def place(orient: np.ndarray, transl: np.ndarray) -> np.ndarray:
        return Rotation.from_rotvec(orient[0].astype(float)).apply(point - pivot[0]) + pivot[0] + transl[0]

    expected = Rotation.from_rotvec([0, 0, angle]).apply(place(orient, transl))
    np.testing.assert_allclose(place(*turn_about_camera(orient, transl, pivot, np.array([angle]))), expected, atol=5e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(16, 512), st.integers(16, 512), st.floats(-3, 3), st.floats(0.5, 1.5))
def test_picture_transforms(before: int, after: int, angle: float, scale: float) -> None:
    np.testing.assert_allclose(resize(after, before) @ resize(before, after), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(flip(after) @ flip(after), np.eye(3))
    corner = resize(before, after) @ [-0.5, before - 0.5, 1]
    np.testing.assert_allclose(corner[:2], [-0.5, after - 0.5], atol=1e-9)
    there = similarity(after, angle, scale, (3.0, -2.0))
    centre = (after - 1) / 2
    np.testing.assert_allclose((there @ [centre, centre, 1])[:2], [centre + 3, centre - 2], atol=1e-9)
    points = np.array([[1.0, 2.0, 0.7], [5.0, 9.0, 0.0]], np.float32)
    back = move_keypoints(move_keypoints(points, there), np.linalg.inv(there))
    np.testing.assert_allclose(back[0], points[0], atol=1e-2)
    assert not back[1].any()


def test_switched_off_variations_leave_the_picture(config: Any, wild: Any) -> None:
    still = make_loader(config(wild, augment=AugmentConfig.none()))
    batches = list(islice(still, 12))
    by_key: dict[str, torch.Tensor] = {}
    for batch in batches:
        for key, image in zip(batch.keys, batch.images, strict=True):
            assert torch.equal(by_key.setdefault(key, image), image)


def test_members_of_a_real_sample_decode(decoder: SampleDecoder, scenes: list[Sample]) -> None:
    decoded = decoder("key", 0, encode(scenes[0]), drawn())
    assert decoded.image.shape == (SIZE, SIZE, 3) and decoded.image.std() > 10


def test_fitted_labels_are_taken_only_where_asked_and_as_often_as_their_quality_says(scenes: list[Sample]) -> None:
    labels = replace(scenes[0].labels, origin_3d="fitted", fit_quality=0.7)
    members = encode(replace(scenes[0], labels=labels))

    def share(**switches: bool) -> float:
        """Of 200 draws, how many took the 3D labels."""
        reader = SampleDecoder(DataConfig((DatasetConfig("x", ("y",), **switches),), image_size=32))
        taken = (
            reader("k", 0, members, replace(drawn(), rng=np.random.default_rng(k))).scene.hand is not None
            for k in range(200)
        )
        return sum(taken) / 200

    assert share() == 0 and share(weak=True) == 0
    assert share(fitted=True) == pytest.approx(0.7, abs=0.1)
    assert share(weak=True, fitted=True) == pytest.approx(0.7, abs=0.1)
