"""What a hand's prior takes from its file, and what it works out where the file does not say."""

from __future__ import annotations

import numpy as np
import torch

from handface.model.bodies import load_body
from handface.model.fitting.prior import _axes_by_geometry


def test_a_hand_without_flexion_axes_bends_its_fingers_the_same_way() -> None:
    body = load_body("free-hand", "free")
    given, found = torch.from_numpy(body.arrays.flexion_axes), _axes_by_geometry(body)
    along = torch.nn.functional.cosine_similarity(given, found, dim=1).numpy()
    thumb = np.array(["thumb" in name for name in body.arrays.joint_names[1:]])
    assert along[~thumb].min() > 0.95 and along[thumb].min() > 0.3, along
