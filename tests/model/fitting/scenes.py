"""Right and left hands at heads whose keypoints are known exactly: points as a detector would give them."""

from __future__ import annotations

from functools import cache

import numpy as np

from handface.model.fitting.people import FitPicture
from handface.model.prediction.prediction import Detection
from handface.pipeline.contract.sample import LEFT, Labels
from handface.pipeline.synthesis.make import SynthesisConfig, make_sample
from handface.pipeline.synthesis.scene.scene import SceneConfig

SIZE = 128


@cache
def labels(number: int) -> Labels:
    """Scenes of touching hands; the odd ones are left."""
    config = SynthesisConfig(
        seed=9, size=SIZE, scenes=SceneConfig(near_share=0, front_share=0, two_hands_share=0, left_share=number % 2)
    )
    return make_sample(number, config).labels


def detection(number: int) -> Detection:
    truth = labels(number)
    side = "left" if truth.hand_side[0] == LEFT else "right"
    return Detection(np.array(truth.face_keypoints_2d), np.array(truth.hand_keypoints_2d[0]), side, 0.9)


def picture(number: int) -> FitPicture:
    k = labels(number).camera_intrinsics
    return FitPicture(SIZE, SIZE, float(k[0, 0]), (float(k[0, 2]), float(k[1, 2])))
