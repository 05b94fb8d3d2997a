"""Points that the detector found: given to the network in place of the labels, moved as the picture is."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handface.pipeline.contract.found_points import dump_points
from handface.pipeline.contract.sample import LEFT, Sample
from handface.trainers.data import AugmentConfig, DatasetConfig, make_loader, make_pass


def listed(scenes: list[Sample], folder: Path, move: tuple[float, float]) -> str:
    """A list of these scenes' own points, moved by pixels."""
    found = {}
    for one in scenes:
        found[one.key] = np.concatenate([one.labels.face_keypoints_2d, one.labels.hand_keypoints_2d[0]])
        found[one.key][:, :2] += move
    (folder / "found.parquet").write_bytes(dump_points(found))
    return str(folder / "found.parquet")


def test_they_are_given_where_they_are_known(config: Any, studio: Path, scenes: list[Sample], tmp_path: Path) -> None:
    dataset = DatasetConfig("studio", (str(studio),), found=(listed(scenes[:3], tmp_path, (3, -2)),))
    seen = {}
    for batch in make_pass(config(dataset)):
        for key, labels, given in zip(batch.keys, batch.keypoints_2d, batch.points, strict=True):
            seen[key] = labels.numpy(), given.numpy()
    assert len(seen) == len(scenes)
    known = {one.key for one in scenes[:3]}
    for one in scenes:
        labels, given = seen[one.key]
        move = np.array([3, -2]) * 64 / 96 * (one.key in known)
        if one.labels.hand_side[0] == LEFT:  # the whole picture is mirrored, these points with it
            move[0] *= -1
        np.testing.assert_allclose(given[:, :2], labels[:, :2] + move, atol=1e-3)


def test_they_move_with_the_picture_and_come_as_often_as_asked(
    config: Any, studio: Path, scenes: list[Sample], tmp_path: Path
) -> None:
    dataset = DatasetConfig("studio", (str(studio),), found=(listed(scenes, tmp_path, (4, 4)),))
    augment = AugmentConfig(found=0.5, rotation=90)
    off = torch.cat(
        [
            (batch.points - batch.keypoints_2d)[..., :2].norm(dim=2)
            for batch in islice(make_loader(config(dataset, augment=augment)), 30)
        ]
    )
    given = off.mean(1) > 0.1
    assert 0.35 < given.float().mean() < 0.65
    # (4, 4) of 96 pixels in a picture of 64, zoomed by 0.75 to 1.25
    zooms = off[given] / (4 * 2**0.5 * 64 / 96)
    assert 0.74 < zooms.min() < 0.9 and 1.1 < zooms.max() < 1.26


def test_an_absent_list_is_named(config: Any, studio: Path) -> None:
    dataset = DatasetConfig("studio", (str(studio),), found=("absent.parquet",))
    with pytest.raises(FileNotFoundError, match=r"absent\.parquet"):
        make_pass(config(dataset))
