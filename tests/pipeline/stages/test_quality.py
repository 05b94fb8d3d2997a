import cv2
import numpy as np
import pytest

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.filters.quality import QualityStage, colour_count, flat_share


def judged(image: np.ndarray) -> Record:
    record = Record(SourceItem("x"), image=image)
    QualityStage()([record])
    return record


def test_a_diagram_is_not_a_photo():
    image = np.full((400, 600, 3), 255, np.uint8)
    cv2.putText(image, "Figure 1", (50, 200), 0, 3, (200, 30, 30), 8)
    record = judged(image)
    assert record.reason is Reason.NOT_A_PHOTO and "colours" in record.detail


@pytest.mark.parametrize("name", ["astronaut", "coffee", "cat", "rocket"])
def test_photographs_pass(name):
    import skimage.data

    assert judged(getattr(skimage.data, name)()).alive


def test_a_studio_photo_on_pure_white_passes():
    import skimage.data

    image = np.full((1600, 1600, 3), 255, np.uint8)
    image[300:812, 300:812] = skimage.data.astronaut()
    assert flat_share(image) > 0.8 and judged(image).alive


def test_figures_of_known_pictures():
    flat = np.zeros((50, 40, 3), np.uint8)
    assert flat_share(flat) == 1 and colour_count(flat) == 1
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    assert flat_share(noise) < 0.001 and colour_count(noise) > 3000
