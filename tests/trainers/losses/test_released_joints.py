"""`paper_released` reads the hand's keypoints off the mesh as the release does: MANO's own regressor, and vertices for the tips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from handface.model.bodies import DECAF, ParametricBody
from handface.model.bodies.load import load_body
from handface.model.bodies.npz import read_body, save_body
from handface.model.bodies.readers import read_mano
from handface.trainers.bodies import Bodies
from handface.trainers.regressor import released_regressor

pytest_plugins = ["tests.model.bodies.gated_files"]
# of the release, in its order: wrist; index, middle, little, ring, thumb; the tips of thumb, index, middle, ring, little
TIPS = (745, 317, 445, 556, 673)
MEDIAPIPE = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)


def test_joints_of_a_drawn_hand_are_the_models_own(mano_pkl: Path, mano_arrays: dict[str, Any], tmp_path: Path) -> None:
    save_body(tmp_path / "mano.npz", read_mano(mano_pkl))
    hand = ParametricBody(read_body(tmp_path / "mano.npz"), DECAF["hand"])
    head = load_body("free-head")
    drawn = torch.randn(2, 778, 3)
    read = Bodies(hand, head, paper_released=True).read_hand(drawn)
    points = np.concatenate([mano_arrays["J_regressor"] @ drawn.numpy(), drawn[:, TIPS].numpy()], 1)
    np.testing.assert_allclose(read.numpy(), points[:, MEDIAPIPE], atol=1e-5)
    assert not torch.allclose(Bodies(hand, head).read_hand(drawn), read, atol=1e-2)


def test_a_body_without_a_regressor_has_none() -> None:
    assert released_regressor(load_body("free-hand")) is None
