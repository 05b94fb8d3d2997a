import numpy as np
import pytest

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
    segmenter = SelfieSegmenter(ModelStore().path("selfie-multiclass"))
    image = skimage_data.astronaut()
    classes = segmenter.segment(image)
    assert classes.shape == image.shape[:2] and classes.dtype == np.uint8
    assert classes[130, 225] == FACE_SKIN and classes[40, 225] == HAIR and classes[430, 200] == CLOTHES
    assert (classes == BODY_SKIN).mean() < 0.05 and (classes == BACKGROUND).mean() > 0.2
    segmenter.close()


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"not a model")
    with pytest.raises((RuntimeError, ValueError)):
        SelfieSegmenter(tmp_path / "x.tflite")


def test_auto_is_decided_before_the_run(monkeypatch, caplog):
    def cannot(self: ModelStore, name: str) -> None:
        raise ModelError(f"no {name} today")

    assert resolved(DetectConfig(segmenter="off")).segmenter == "off"
    assert resolved(DetectConfig()).segmenter == "on"
    monkeypatch.setattr(ModelStore, "path", cannot)
    assert resolved(DetectConfig()).segmenter == "off" and "no selfie-multiclass today" in caplog.text
