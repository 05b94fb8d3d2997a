import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotators.fastdepth import FastDepth
from pipeline.record import Record, SourceItem
from pipeline.stages.depth import (
    DepthConfig,
    DepthStage,
    decode_depth_png,
    encode_depth_png,
    keypoint_depth,
    mediapipe_depth,
)
from tests.pipeline.people import face_at, hand_at

SIDE = 400
SHRUNK = np.array([[2.0, 0, 100], [0, 2.0, 50], [0, 0, 1]])  # crop pixel -> photo pixel


def people(scale: float = 1600.0):
    """A face filling most of the crop and a hand whose fingertips reach its mouth, in photo pixels."""
    return face_at(500, 400, scale), hand_at(500, 480, scale)


def test_each_part_is_read_on_its_own_side_of_the_silhouette():
    face, hand = people()
    from pipeline.contact import hand_mask

    drawn = hand_mask(hand, 1600, (2 * SIDE, 2 * SIDE), np.array([100.0, 50.0]))[::2, ::2] > 0
    depth = np.where(drawn, 1.0, 5.0).astype(np.float32)
    values = keypoint_depth(depth, face, [hand], SHRUNK)
    face_values, hand_values = values[:68], values[68:]
    assert values.shape == (89, 2) and values.dtype == np.float32
    assert hand_values[8:, 1].sum() > 8 and (hand_values[hand_values[:, 1] == 1, 0] == 1).all()
    assert 40 < face_values[:, 1].sum() < 68  # those under the fingers have no value
    assert (face_values[face_values[:, 1] == 1, 0] == 5).all()
    assert (values[values[:, 1] == 0] == 0).all()


def test_points_outside_the_crop_and_unsure_ones_are_invalid():
    face, hand = people()
    hand.keypoints[0, :2] = (-500, 100)
    hand.keypoints[12, 2] = 0.05
    values = keypoint_depth(np.ones((SIDE, SIDE), np.float32), face, [hand], SHRUNK)
    assert values[68, 1] == 0 and values[68 + 12, 1] == 0 and values[68 + 11, 1] == 1


def test_a_speck_does_not_move_the_median():
    face, hand = people()
    depth = np.full((SIDE, SIDE), 3.0, np.float32)
    x, y = np.round((face.keypoints[36, :2] - (100, 50)) / 2).astype(int)
    depth[y, x] = 1000
    depth[y + 1, x] = np.nan
    assert keypoint_depth(depth, face, [hand], SHRUNK)[36].tolist() == [3, 1]


def test_mediapipe_z_is_in_crop_pixels_and_marked_as_per_part():
    face, hand = people()
    assert mediapipe_depth(face, hand, SHRUNK).values[:68].sum() == 0  # no mesh: the face part is invalid
    hand.z[:] = np.arange(21)
    depth = mediapipe_depth(face, hand, SHRUNK)
    assert depth.kind == "affine-per-part"
    assert depth.values[68:, 0] == pytest.approx(np.arange(21) / 2) and depth.values[68:, 1].all()


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e4), st.integers(0, 2**32 - 1))
def test_a_depth_map_survives_sixteen_bits(low, span, seed):
    depth = (low + span * np.random.default_rng(seed).random((6, 5))).astype(np.float32)
    error = np.abs(decode_depth_png(encode_depth_png(depth)) - depth).max()
    assert error <= span / 65535 + 1e-3 * span + np.abs(depth).max() * 1e-6


def test_a_constant_map_and_a_foreign_png():
    flat = np.full((3, 3), 2.5, np.float32)
    assert np.array_equal(decode_depth_png(encode_depth_png(flat)), flat)
    from tests.pipeline.images import encode, photo

    with pytest.raises(ValueError, match="scale"):
        decode_depth_png(encode(photo(), "PNG"))


def cropped() -> Record:
    record = Record(SourceItem("x"))
    record.face, person = people()
    record.person_hands = [person]
    import skimage.data

    record.crop = np.ascontiguousarray(skimage.data.astronaut()[:SIDE, :SIDE])
    record.affine = SHRUNK
    return record


def test_the_stage_fills_every_source_it_was_asked_for():
    stage = DepthStage(DepthConfig(fastdepth=True))
    stage.setup()
    record = cropped()
    stage([record])
    assert set(record.keypoint_depth) == {"mediapipe", "fastdepth"}
    assert record.depth_maps["fastdepth"].shape == (SIDE, SIDE)
    assert [a.name for a in record.annotators] == ["fastdepth"]
    assert stage.resources.num_gpus == 0 and DepthStage(DepthConfig(device="cuda")).resources.num_gpus == 1


def test_fastdepth_puts_a_person_before_the_background():
    import skimage.data

    (depth,) = FastDepth().annotate([skimage.data.astronaut()])
    assert depth.shape == (512, 512) and np.isfinite(depth).all()
    assert np.median(depth[300:500, 150:330]) < np.median(depth[:150, 400:])


def test_a_broken_network_file_is_named(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"no network")
    with pytest.raises(RuntimeError, match="net.onnx"):
        FastDepth(tmp_path / "net.onnx")
