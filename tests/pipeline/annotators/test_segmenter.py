import numpy as np
import pytest

from handface.pipeline.annotators.mediapipe import has_graphs
from handface.pipeline.annotators.selfie_segmenter import (
    BACKGROUND,
    BODY_SKIN,
    CLOTHES,
    FACE_SKIN,
    HAIR,
    SelfieSegmenter,
)
from handface.pipeline.contract.model_store import ModelError, ModelStore
from handface.pipeline.stages.detect import DetectConfig, resolved

skimage_data = pytest.importorskip("skimage.data")


def test_the_astronauts_face_hair_and_suit_are_told_apart():
    segmenter = SelfieSegmenter()
    image = skimage_data.astronaut()
    classes = segmenter.segment(image)
    assert classes.shape == image.shape[:2] and classes.dtype == np.uint8
    assert classes[130, 225] == FACE_SKIN and classes[40, 225] == HAIR and classes[430, 200] == CLOTHES
    assert (classes == BODY_SKIN).mean() < 0.05 and (classes == BACKGROUND).mean() > 0.2


@pytest.mark.skipif(not has_graphs(), reason="the installed mediapipe has no segmenter to compare with")
def test_equal_to_mediapipes_own_graph():
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    base = BaseOptions(model_asset_buffer=ModelStore().path("selfie-multiclass").read_bytes())
    options = vision.ImageSegmenterOptions(base_options=base, output_category_mask=True)
    image = np.ascontiguousarray(skimage_data.astronaut()[:400])
    with vision.ImageSegmenter.create_from_options(options) as graph:
        mask = graph.segment(mp.Image(image_format=mp.ImageFormat.SRGB, data=image)).category_mask.numpy_view()
    assert (SelfieSegmenter().segment(image) == np.asarray(mask).reshape(image.shape[:2])).mean() > 0.99


def test_auto_is_decided_before_the_run(monkeypatch, caplog):
    def cannot(self: ModelStore, name: str) -> None:
        raise ModelError(f"no {name} today")

    assert resolved(DetectConfig(segmenter="off")).segmenter == "off"
    assert resolved(DetectConfig()).segmenter == "on"
    monkeypatch.setattr(ModelStore, "path", cannot)
    assert resolved(DetectConfig()).segmenter == "off" and "no selfie-multiclass today" in caplog.text
