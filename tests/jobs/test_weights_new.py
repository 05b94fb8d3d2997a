"""handface weights new: fresh weights with an ImageNet backbone, and heads that learned from points."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from handface.jobs.cli import main
from handface.model.weights.checkpoint import is_trained, load_dice
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dice-xx",), "no preset 'dice-xx'; one of dice-w64"),
        (("dice-m", "--imagenet", "absent.pth"), "absent.pth: no such file"),
        (("dice-nano", "--points", "absent"), "dice-nano does not look at points"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, capsys, arguments, message) -> None:  # type: ignore[no-untyped-def]
    assert new(*arguments, "--output", tmp_path / "start") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "start").exists()
