import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handface.model.prediction.view import crop_box
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.sample import LEFT, Scores, decode, encode, sample_key
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.crop import CropConfig, CropStage, snap_box
from handface.pipeline.stages.pack import PackStage
from tests.pipeline.people import face_at, hand_at


def seen(width: int = 640, height: int = 480, scale: float = 900.0) -> Record:
    """A record as it leaves the contact filter: noise with a white square on the chin."""
    image = np.random.default_rng(0).integers(0, 160, (height, width, 3), np.uint8)
    record = Record(
        SourceItem("https://example.org/a.jpg", columns=(("licence", "CC0"), ("author", "A"), ("note", "n"))),
        image=image,
        original_size=(width, height),
        sha256="0" * 64,
        phash="f" * 16,
    )
    record.face, record.person_hands = face_at(320, 200, scale), [hand_at(320, 250, scale, "left")]
    record.scores = Scores(0.9, 1, 0.1, 0.9, 0.9, None, 0)
    return record


def test_crop_and_labels_point_at_the_same_pixels():
    record = seen()
    tip = np.round(record.person_hands[0].keypoints[12, :2]).astype(int)
    record.image[tip[1] - 3 : tip[1] + 4, tip[0] - 3 : tip[0] + 4] = 255
    CropStage()([record])
    PackStage(fetched_at="2026-01-01")([record])
    sample = decode(encode(record.sample))
    import simplejpeg

    crop = simplejpeg.decode_jpeg(sample.image)
    assert crop.shape == (sample.meta.crop.size,) * 2 + (3,)
    x, y = np.round(sample.labels.hand_keypoints_2d[0, 12, :2]).astype(int)
    assert crop[y, x].min() > 230
    back = np.array(sample.meta.crop.affine) @ np.array([*sample.labels.hand_keypoints_2d[0, 12, :2], 1])
    assert back[:2] == pytest.approx(record.person_hands[0].keypoints[12, :2], abs=0.01)


def test_provenance_is_kept_and_the_key_is_the_image():
    record = seen()
    CropStage()([record])
    PackStage(fetched_at="2026-01-01")([record])
    meta = record.sample.meta
    assert meta.key == sample_key(record.sample.image)
    assert (meta.source.licence, meta.source.author, meta.source.columns) == ("CC0", "A", {"note": "n"})
    assert meta.source.fetched_at == "2026-01-01"
    assert record.sample.labels.hand_side.tolist() == [LEFT]
    assert record.image is None and record.crop is None


def test_large_crops_are_shrunk_and_small_or_flat_ones_rejected():
    large, small, flat = seen(2000, 1500, 3000), seen(scale=200), seen()
    large.face, large.person_hands = face_at(900, 600, 3000), [hand_at(900, 700, 3000)]
    flat.image[:] = 128
    CropStage(CropConfig(min_side=150))([large, small, flat])
    assert large.crop.shape == (512, 512, 3)
    assert small.reason is Reason.TOO_SMALL and flat.reason is Reason.BLURRED


@given(
    face=st.tuples(st.floats(0, 300), st.floats(0, 300), st.floats(20, 200)),
    hand=st.tuples(st.floats(0, 300), st.floats(0, 300), st.floats(20, 200)),
)
def test_crop_box_is_square_holds_both_and_stays_inside_where_it_can(face, hand):
    boxes = [(x, y, x + s, y + s) for x, y, s in (face, hand)]
    x0, y0, x1, y1 = crop_box(*boxes, 1.4, 500, 500)
    assert x1 - x0 == pytest.approx(y1 - y0)
    if x1 - x0 <= 500:
        assert x0 >= -0.51 and y0 >= -0.51 and x1 <= 499.51 and y1 <= 499.51
    shown = [np.clip(b, 0, 500) for b in boxes]
    assert x0 <= min(b[0] for b in shown) + 1 and x1 >= max(b[2] for b in shown) - 1


def test_a_close_up_is_not_framed_in_black():
    x0, y0, x1, y1 = crop_box((60, -90, 430, 330), (150, 200, 420, 560), 1.4, 512, 512)
    assert (x0, y0, x1, y1) == pytest.approx((-0.5, -0.5, 511.5, 511.5), abs=52) and x1 - x0 <= 512 * 1.1


@given(
    face=st.tuples(st.floats(0, 300), st.floats(0, 300), st.floats(20, 200)),
    hand=st.tuples(st.floats(0, 300), st.floats(0, 300), st.floats(20, 200)),
    width=st.integers(200, 700),
)
@example(
    face=(0.0, 0.0, 20.0), hand=(0.0, 70.0, 200.0), width=296
)  # a side that is a pixel more than the picture's, until it is snapped
def test_a_snapped_box_is_whole_pixels_near_the_box_and_inside_where_that_was(face, hand, width):
    boxes = [(x, y, x + s, y + s) for x, y, s in (face, hand)]
    box = crop_box(*boxes, 1.4, width, 500)
    snapped = np.array(snap_box(box, width, 500))
    side = snapped[2] - snapped[0]
    assert side == snapped[3] - snapped[1] and (snapped + 0.5 == np.round(snapped + 0.5)).all()
    assert np.abs(snapped - box).max() <= 0.06 * (box[2] - box[0]) + 1
    if box[2] - box[0] <= min(width, 500):
        assert snapped.min() >= -0.5 and snapped[2] <= width - 0.5 and snapped[3] <= 499.5


def test_rounding_of_a_processor_leaves_nearly_every_box_where_it_is():
    rng = np.random.default_rng(0)
    same = 0
    for _ in range(400):
        side, (x, y) = rng.uniform(120, 500), rng.uniform(0, 500, 2)
        box = (x, y, x + side, y + side)
        moved = tuple(value + error for value, error in zip(box, np.tile(rng.normal(0, 0.03, 2), 2), strict=True))
        same += snap_box(box, 1000, 1000) == snap_box(moved, 1000, 1000)
    assert same >= 385


def test_a_crop_that_is_not_shrunk_is_a_plain_copy():
    record = seen()
    image = record.image
    CropStage()([record])
    x, y = np.round(record.affine[:2, 2]).astype(int)
    assert record.affine.tolist() == [[1, 0, x], [0, 1, y], [0, 0, 1]]
    assert (record.crop == image[y : y + len(record.crop), x : x + len(record.crop)]).all()
