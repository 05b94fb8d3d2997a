"""handface weights new and points: an ImageNet backbone, heads that learned from points, and which points those are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from handface.jobs.cli import main
from handface.model.prediction.prediction import Detection, NobodyFoundError
from handface.model.weights.checkpoint import is_trained, load_dice
from handface.pipeline.contract.sample import LEFT
from tests.model.network.test_mobilenet import imagenet_file
from tests.trainers.labelled import studio_samples


def new(*arguments: object) -> int:
    return main(["weights", "new", *map(str, arguments)])


def test_a_fresh_network_has_the_files_backbone_and_is_not_trained(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    file, tensors = imagenet_file(tmp_path)
    assert new("dice-m", "--imagenet", file, "--output", tmp_path / "start") == 0
    assert "312 tensors of the backbone" in capsys.readouterr().out
    network = load_dice(tmp_path / "start")
    assert torch.equal(network.backbone.layers[0][0].weight, tensors["features.0.0.weight"])
    assert not is_trained(tmp_path / "start") and not network.backbone.narrow.weight.any()


def test_its_heads_learn_from_the_points_of_shards(tmp_path: Path, make_sample, write_tar, capsys) -> None:  # type: ignore[no-untyped-def]
    file, _ = imagenet_file(tmp_path)
    shard = write_tar(tmp_path / "a.tar", studio_samples(make_sample, 4))
    common = ("dice-m", "--imagenet", file)
    assert new(*common, "--output", tmp_path / "plain") == 0
    assert new(*common, "--points", shard, "--points-steps", 2, "--output", tmp_path / "start") == 0
    assert "learning from the points of 4 samples" in capsys.readouterr().out
    plain, learned = (load_dice(tmp_path / name) for name in ("plain", "start"))
    assert not torch.equal(plain.placement.out.weight, learned.placement.out.weight)
    assert torch.equal(plain.backbone.layers[4].conv[0][0].weight, learned.backbone.layers[4].conv[0][0].weight)


class DetectorOfHalf:
    """Finds every second sample's labelled person, four pixels to the right."""

    def __init__(self, samples) -> None:  # type: ignore[no-untyped-def]
        self.left = iter(samples)

    def __call__(self, image: np.ndarray) -> list[Detection]:
        sample, move = next(self.left), np.array([4, 0, 0], np.float32)
        if sample.key[-1] in "02468ace":
            raise NobodyFoundError("no face")
        labels = sample.labels
        side = "left" if labels.hand_side[0] == LEFT else "right"
        return [Detection(labels.face_keypoints_2d + move, labels.hand_keypoints_2d[0] + move, side, 1.0, None)]


def test_heads_learn_from_what_the_detector_finds(tmp_path: Path, make_sample, write_tar, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    file, _ = imagenet_file(tmp_path)
    samples = studio_samples(make_sample, 8)
    shard = write_tar(tmp_path / "a.tar", samples)
    seen = sum(one.key[-1] not in "02468ace" for one in samples)
    assert 0 < seen < 8
    monkeypatch.setattr("handface.predict.found._detector", lambda: DetectorOfHalf(samples))
    found = tmp_path / "lists" / "found.parquet"
    assert main(["weights", "points", str(shard), "--output", str(found)]) == 0
    assert f"found the labelled person in {seen} of 8 samples" in capsys.readouterr().out
    common = ("dice-m", "--imagenet", file, "--points", shard, "--points-steps", 2)
    assert new(*common, "--output", tmp_path / "true") == 0
    assert new(*common, "--points-found", found, "--output", tmp_path / "found") == 0
    true, given = (load_dice(tmp_path / name).point_cells.read[0].weight for name in ("true", "found"))
    assert not torch.equal(true, given)


def test_where_a_list_cannot_be_written_nothing_is_looked_for(tmp_path: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("handface.predict.found._look", lambda shard: pytest.fail("looked"))
    assert main(["weights", "points", str(tmp_path), "--output", str(tmp_path)]) == 2
    assert main(["weights", "points", "--output", str(tmp_path / "a.parquet")]) == 2
    errors = capsys.readouterr().err
    assert "is a folder, and a file is needed" in errors and "give the shards" in errors


def test_a_list_of_nobody_is_not_written(tmp_path: Path, make_sample, write_tar, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    samples = [one for one in studio_samples(make_sample, 12) if one.key[-1] in "02468ace"]
    shard = write_tar(tmp_path / "a.tar", samples)
    monkeypatch.setattr("handface.predict.found._detector", lambda: DetectorOfHalf(samples))
    assert main(["weights", "points", str(shard), "--output", str(tmp_path / "x.parquet")]) == 2
    assert "the detector finds nobody who is labelled" in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dice-xx",), "no preset 'dice-xx'; did you mean dice-"),
        (("dice-m", "--imagenet", "absent.pth"), "absent.pth: no such file"),
        (("dice-nano", "--points", "absent"), "dice-nano does not look at points"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, capsys, arguments, message) -> None:  # type: ignore[no-untyped-def]
    assert new(*arguments, "--output", tmp_path / "start") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "start").exists()


def test_a_frozen_backbone_is_not_trained_from_random_weights() -> None:
    from handface.trainers.build import build_network
    from handface.trainers.config import TrainConfig
    from handface.trainers.data import DataConfig, DatasetConfig

    config = TrainConfig.for_preset("dice-m", DataConfig((DatasetConfig("a", ("a",)),)))
    with pytest.raises(ValueError, match="weights new dice-m --output start"):
        build_network(config)
