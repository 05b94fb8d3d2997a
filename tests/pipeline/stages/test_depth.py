from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.annotators.landmarks import FACE_68_FROM_478
from handface.pipeline.contract.images.depth_map import decode_depth_png, encode_depth_png
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.sample import AnnotatorRecord
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import run_stages
from handface.pipeline.stages.depth import (
    DepthConfig,
    DepthStage,
    PartMasks,
    keypoint_depth,
    load_annotators,
    part_masks,
    relative_depth,
)
from tests.pipeline.people import face_at, hand_at

SIDE = 256
LEFT = np.zeros((SIDE, SIDE), bool)
LEFT[:, :128] = True
MASKS = PartMasks(face=LEFT, hand=~LEFT)


class Ramp:
    """A dense source whose map is each crop's column number."""

    name, kind = "ramp", "affine"

    def records(self):
        return (AnnotatorRecord("ramp", "depth", "1", "0" * 64, "CC0-1.0"),)

    def annotate(self, images):
        return [np.tile(np.arange(image.shape[1], dtype=np.float32), (image.shape[0], 1)) for image in images]


def points(count: int, x: float, y: float = 100.0, confidence: float = 0.9) -> np.ndarray:
    return np.tile(np.float32([x, y, confidence]), (count, 1))


def photo(side: int = SIDE, crop_scale: float = 2.0, hand_x: float = 250.0) -> Record:
    """A face in the middle of a photo `crop_scale` times as large as its crop, and a hand beside it."""
    centre = side * crop_scale / 2
    record = Record(SourceItem("a.jpg"))
    record.face = face_at(centre, centre, 1600)
    record.person_hands = [hand_at(hand_x, centre, 1600)]
    record.crop = np.zeros((side, side, 3), np.uint8)
    record.affine = np.diag([crop_scale, crop_scale, 1.0])
    return record


def masks_of(record: Record, to_crop: np.ndarray) -> PartMasks:
    return part_masks(record.face, record.person_hands, record.skin, record.crop.shape[:2], to_crop)


def test_samples_do_not_cross_the_silhouette():
    depth = np.where(LEFT, 1.0, 5.0).astype(np.float32)
    values = keypoint_depth(depth, points(68, 127), points(21, 128), MASKS)
    assert values.shape == (89, 2) and values.dtype == np.float32 and (values[:, 1] == 1).all()
    assert (values[:68, 0] == 1).all() and (values[68:, 0] == 5).all()


def test_a_face_point_behind_the_hand_has_no_depth():
    values = keypoint_depth(np.ones((SIDE, SIDE), np.float32), points(68, 140), points(21, 140), MASKS)
    assert not values[:68].any() and (values[68:] == 1).all()


@pytest.mark.parametrize(
    "bad", [(-1, 100, 0.9), (100, 256, 0.9), (100, 100, 0.1), (np.nan, 100, 0.9), (100, 100, np.nan)]
)
def test_points_outside_or_unsure_have_no_depth(bad):
    face = points(68, 100)
    face[3] = bad
    values = keypoint_depth(np.ones((SIDE, SIDE), np.float32), face, points(21, 200), MASKS)
    assert not values[3].any() and values[:, 1].sum() == 88


def test_a_spike_and_holes_do_not_move_the_median():
    depth = np.full((SIDE, SIDE), 2.0, np.float32)
    depth[100, 100], depth[101, 100], depth[99, 99] = 1e6, np.nan, np.inf
    assert (keypoint_depth(depth, points(68, 100), points(21, 200), MASKS)[:68, 0] == 2).all()
    empty = keypoint_depth(np.full_like(depth, np.nan), points(68, 100), points(21, 200), MASKS)
    assert not empty.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(64, 512), st.floats(0.05, 0.9), st.floats(0.05, 0.95))
def test_a_plane_is_sampled_at_the_point_whatever_the_crop_size(side, x, y):
    plane = np.add.outer(np.arange(side), 2 * np.arange(side)).astype(np.float32)
    everywhere = PartMasks(np.ones((side, side), bool), np.zeros((side, side), bool))
    column, row = round(x * (side - 1)), round(y * (side - 1))
    margin = 8
    column, row = (int(np.clip(v, margin, side - 1 - margin)) for v in (column, row))
    value, valid = keypoint_depth(plane, points(68, column, row), points(21, 0, 0), everywhere)[0]
    assert valid == 1 and value == pytest.approx(row + 2 * column, abs=1e-3)


def test_masks_take_the_hand_out_of_the_face_and_obey_the_skin_map():
    record = photo(hand_x=256)
    to_crop = np.linalg.inv(record.affine)
    drawn = masks_of(record, to_crop)
    assert drawn.face.any() and drawn.hand.any() and not (drawn.face & drawn.hand).any()
    tip = record.person_hands[0].keypoints[12, :2] / 2
    assert drawn.hand[round(float(tip[1])), round(float(tip[0]))]

    record.skin = np.full((512, 512), 3, np.uint8)
    record.skin[:, :200] = 0  # the left of the photo is background
    narrowed = masks_of(record, to_crop)
    assert not narrowed.face[:, :100].any() and narrowed.face.sum() < drawn.face.sum()
    record.skin[:] = 4  # all clothes: a segmenter that saw nothing is not believed
    assert (masks_of(record, to_crop).hand == drawn.hand).all()


def test_the_stage_fills_maps_values_and_provenance_in_crop_pixels():
    record = photo()
    stage = DepthStage(DepthConfig(), load=lambda: [Ramp()])
    stage.setup()
    assert [passage.stage for passage in run_stages([stage], [record])] == ["depth"]
    assert record.depth_maps["ramp"].shape == (SIDE, SIDE)
    ramp = record.keypoint_depth["ramp"]
    assert ramp.kind == "affine" and record.annotators[0].name == "ramp"
    tip = record.person_hands[0].keypoints[12, 0] / 2  # the map is the column, so the value is the point's own x
    assert ramp.values[68 + 12] == pytest.approx([tip, 1], abs=2)
    relative = record.keypoint_depth["mediapipe"]
    assert relative.kind == "affine-per-part"
    assert not relative.values[:68, 1].any() and relative.values[68:, 1].all()  # this face has no mesh


def test_relative_depth_shrinks_with_the_crop():
    mesh = np.zeros((478, 3), np.float32)
    mesh[:, 2] = np.arange(478)
    face, hand = (
        replace(face_at(100, 100, 1000), mesh=mesh),
        replace(hand_at(0, 0, 1000), z=np.arange(21, dtype=np.float32)),
    )
    values = relative_depth(face, hand, 0.5)
    assert values is not None and (values[:, 1] == 1).all()
    assert (values[:68, 0] == 0.5 * np.array(FACE_68_FROM_478)).all() and values[88, 0] == 10
    assert relative_depth(face_at(0, 0, 1000), replace(hand, z=None), 1.0) is None


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(2, 40))
def test_a_depth_png_comes_back_to_half_a_code(low, span, side):
    depth = (low + span * np.random.default_rng(side).random((side, side))).astype(np.float32)
    back = decode_depth_png(encode_depth_png(depth))
    assert back.shape == depth.shape and back.dtype == np.float32
    assert np.abs(back - depth).max() <= (depth.max() - depth.min()) / 65535 * 0.51 + 4 * np.spacing(
        np.abs(depth).max()
    )


def test_depth_png_is_16_bit_deterministic_and_refuses_what_it_cannot_hold():
    flat = np.full((8, 8), 3.5, np.float32)
    assert encode_depth_png(flat) == encode_depth_png(flat) and (decode_depth_png(encode_depth_png(flat)) == 3.5).all()
    assert encode_depth_png(flat)[24:26] == bytes([16, 0])  # bit depth, grey
    with pytest.raises(ValueError, match="finite"):
        encode_depth_png(np.full((8, 8), np.nan, np.float32))
    import cv2

    foreign = cv2.imencode(".png", np.zeros((4, 4), np.uint16))[1].tobytes()
    with pytest.raises(ValueError, match="offset"):
        decode_depth_png(foreign)


def test_the_stage_runs_the_networks_it_was_asked_for():
    record = photo()
    record.crop = np.random.default_rng(0).integers(0, 256, record.crop.shape, dtype=np.uint8)
    stage = DepthStage(DepthConfig(fastdepth=True))
    stage.setup()
    stage([record])
    assert set(record.keypoint_depth) == {"mediapipe", "fastdepth"}
    assert record.depth_maps["fastdepth"].shape == (SIDE, SIDE) and [a.name for a in record.annotators] == ["fastdepth"]
    assert load_annotators(DepthConfig()) == []
    assert stage.resources.num_gpus == 0 and DepthStage(DepthConfig(device="cuda")).resources.num_gpus == 1


def test_on_a_face_and_hand_each_part_is_read_on_its_own_side():
    record = photo(hand_x=256)
    to_crop = np.linalg.inv(record.affine)
    masks = masks_of(record, to_crop)
    depth = np.where(masks.hand, 1.0, 5.0).astype(np.float32)

    def cropped(points: np.ndarray) -> np.ndarray:
        return np.column_stack([points[:, :2] / 2, points[:, 2]])

    values = keypoint_depth(depth, cropped(record.face.keypoints), cropped(record.person_hands[0].keypoints), masks)
    face, hand = values[:68], values[68:]
    assert (hand[hand[:, 1] == 1, 0] == 1).all() and hand[8:, 1].sum() > 8
    assert 30 < face[:, 1].sum() < 68 and (face[face[:, 1] == 1, 0] == 5).all()
