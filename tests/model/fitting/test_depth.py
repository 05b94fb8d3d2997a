"""Depth at the keypoints: how far the hand lies before the face, whatever scale, shift and direction the values have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handface.model.fitting.config import Observations
from handface.model.fitting.depth import HandDepth, hand_depth, presence_with_depth
from handface.model.fitting.keypoints import fit_keypoints
from handface.model.fitting.people import FitPicture
from handface.model.prediction.prediction import Detection, Person, PointDepth
from handface.pipeline.contract.sample import LEFT, Labels
from handface.pipeline.synthesis.make import SynthesisConfig, make_sample
from handface.pipeline.synthesis.scene.scene import SceneConfig

AWAY = 0.04  # metres that the hand lies nearer than it was fitted
UNDER = 0.008  # metres from skin to keypoints, which the values do not see


def fitted_z() -> torch.Tensor:
    """(1, 89) of a face 60 cm away with some relief, and a hand 10 cm before it."""
    relief = 0.02 * torch.sin(torch.arange(68.0)) + 0.6
    return torch.cat([relief, 0.5 + 0.01 * torch.cos(torch.arange(21.0))])[None]


def seen(value: torch.Tensor, known: torch.Tensor | None = None, inverse: bool = False) -> Observations:
    nothing = torch.zeros(1)
    known = torch.ones_like(value) if known is None else known
    depth = torch.stack([value, known], 2)
    return Observations(
        nothing, nothing, nothing, nothing, nothing, depth, torch.tensor([inverse]), nothing
    )  # only depth is looked at


def surface() -> torch.Tensor:
    """What a depth map shows: the hand `AWAY` nearer than fitted, its skin before its keypoints."""
    z = fitted_z()
    z[:, 68:] -= AWAY + UNDER
    return z


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (3.0, -7.0), (0.01, 100.0)])
@pytest.mark.parametrize("inverse", [False, True])
def test_scale_and_shift_do_not_matter(scale: float, shift: float, inverse: bool) -> None:
    value = scale * (1 / surface() if inverse else surface()) + shift
    depth = hand_depth(seen(value, inverse=inverse), fitted_z())
    assert depth.offset.item() == pytest.approx(-AWAY, abs=1e-3)
    assert 0.006 < depth.precision.item() ** -0.5 < 0.04


def test_points_that_show_the_wall_or_nothing_are_left_out() -> None:
    value, known = surface(), torch.ones(1, 89)
    value[0, :17] = 3.0  # the jaw line shows what lies behind
    value[0, [20, 30, 40, 50, 70, 75]] = 3.0  # so do some others
    value[0, 80:], known[0, 80:] = -9.0, 0.0
    depth = hand_depth(seen(value, known), fitted_z())
    assert depth.offset.item() == pytest.approx(-AWAY, abs=2e-3)


@pytest.mark.parametrize("kind", ["flat", "noise", "reversed", "few of the face", "few of the hand"])
def test_what_is_no_depth_of_this_face_says_nothing(kind: str) -> None:
    value, known = surface(), torch.ones(1, 89)
    if kind == "flat":
        value[:] = 0.6
    elif kind == "noise":
        value = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 89))).float()
    elif kind == "reversed":
        value = -value
    elif kind == "few of the face":
        known[:, 20:68] = 0
    else:
        known[:, 71:] = 0
    depth = hand_depth(seen(value, known), fitted_z())
    assert depth.precision.item() == 0 and depth.offset.item() == 0


def test_presence_follows_the_gap_to_the_skin() -> None:
    presence = torch.full((4,), 0.6)
    offset = torch.tensor([0.0, -0.03, -0.06, -0.06])
    depth = HandDepth(offset, offset - 0.05, torch.tensor([0.01, 0.01, 0.01, torch.inf]), torch.full((4,), 0.2))
    told = presence_with_depth(presence, depth, torch.zeros(4))
    assert told[0] > 0.7 and told[0] > told[1] > told[2] and told[2] < 0.3
    assert told[3] == presence[3]
    never = presence_with_depth(presence, depth, torch.full((4,), torch.nan))
    assert torch.equal(never, presence)


def hand_before_face(left: bool) -> Labels:
    """A scene whose hand passes before the face without touching it."""
    config = SynthesisConfig(
        seed=3,
        size=192,
        scenes=SceneConfig(near_share=0, front_share=1, two_hands_share=0, left_share=float(left)),
    )
    found = (make_sample(k, config).labels for k in range(30))
    return next(labels for labels in found if _gap(labels) < -0.1 and _valid(labels) >= 40)


def _gap(labels: Labels) -> float:
    return float(labels.hand_keypoints_3d[:, 2].mean() - labels.head_keypoints_3d[:, 2].mean())


def _valid(labels: Labels) -> int:
    return int(next(iter(labels.keypoint_depth.values())).values[:, 1].sum())


def fit(labels: Labels, depth: PointDepth | None) -> Person:
    side = "left" if labels.hand_side[0] == LEFT else "right"
    k = labels.camera_intrinsics
    detection = Detection(np.array(labels.face_keypoints_2d), np.array(labels.hand_keypoints_2d[0]), side, 0.9)
    picture = FitPicture(192, 192, float(k[0, 0]), (float(k[0, 2]), float(k[1, 2])))
    (person,) = fit_keypoints([replace(detection, depth=depth)], [picture])
    return person


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("inverse", [False, True])
def test_a_hand_before_the_face_is_not_drawn_to_it(left: bool, inverse: bool) -> None:
    labels = hand_before_face(left)
    true = next(iter(labels.keypoint_depth.values())).values
    values = true.copy()
    values[:, 0] = 50 / np.maximum(true[:, 0], 0.1) - 20 if inverse else 2 * true[:, 0] + 1
    alone, told = fit(labels, None), fit(labels, PointDepth(values, inverse))

    def off(person: Person) -> float:
        gap = float(person.hand.keypoints_3d[:, 2].mean() - person.head.keypoints_3d[:, 2].mean())
        return abs(gap - _gap(labels))

    assert off(told) < min(0.03, off(alone)) and told.fit.depth and not alone.fit.depth
    assert told.presence < 0.5 and told.presence < alone.presence
    assert not (told.hand.contact > 0.5).any()


def test_values_that_are_not_numbers_are_as_good_as_missing() -> None:
    labels = hand_before_face(False)
    values = np.full((89, 2), np.nan, np.float32)
    alone, told = fit(labels, None), fit(labels, PointDepth(values))
    np.testing.assert_array_equal(alone.hand.vertices, told.hand.vertices)
    assert not told.fit.depth
