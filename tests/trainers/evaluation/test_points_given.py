"""Networks that look at points get the labelled ones in evaluation, or none if asked; the others are called as before."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from handface.model.network.config import PointsConfig, preset
from handface.trainers.evaluation.systems import NetworkSystem, RunOnce


@pytest.mark.parametrize(
    ("looks", "points", "count"), [(True, True, 2), (True, False, 1), (False, True, 1), (False, False, 1)]
)
def test_which_inputs_a_network_is_given(monkeypatch, looks, points, count):
    given = []
    monkeypatch.setattr(NetworkSystem, "_meshes", lambda self, output, mesh: mesh)
    config = replace(preset("dice-nano"), points=PointsConfig() if looks else None)
    batch = SimpleNamespace(images=torch.zeros(2, 3, 8, 8), points=torch.ones(2, 89, 3))
    run = RunOnce(lambda *inputs: given.append(inputs))
    system = NetworkSystem(run, config, None, None, "drawn", points)  # type: ignore[arg-type]
    system(batch, None)  # type: ignore[arg-type]
    assert len(given[0]) == count and given[0][0] is batch.images
