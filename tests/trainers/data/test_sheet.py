"""The contact sheet: one tile per sample, labels drawn where they are, and the verb that writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handface.jobs.inspect_data import Config, run
from handface.trainers.data import AugmentConfig, make_loader
from handface.trainers.data.config import set_name
from handface.trainers.data.sheet import contact_sheet


def test_sheet_shows_labels(config: Any, studio: Path, wild: Path) -> None:
    loader = make_loader(config(studio, wild, batch_size=6, augment=AugmentConfig.none()))
    batch = next(iter(loader))
    sheet = contact_sheet(batch, loader.names, "free-hand", "free-head", columns=4, tile=128)
    assert sheet.shape == (2 * (128 + 34), 4 * 128, 3) and sheet.dtype == np.uint8
    for k in range(6):
        row, column = divmod(k, 4)
        tile = sheet[row * 162 : row * 162 + 128, column * 128 : (column + 1) * 128]
        assert (np.abs(tile.astype(int) - [80, 255, 80]).max(2) < 40).any()  # face points
    assert not sheet[162:, 2 * 128 :].any()  # no seventh sample


def test_labels_in_3d_without_points_are_drawn_without_a_mesh(config: Any, studio: Path) -> None:
    loader = make_loader(config(studio, batch_size=4, augment=AugmentConfig.none()))
    batch = next(iter(loader))
    assert batch.has_mesh.all()
    blind = {name: getattr(batch, name) * 0 for name in ("face_keypoints_2d", "hand_keypoints_2d")}
    sheet = contact_sheet(replace(batch, **blind), loader.names, "free-hand", "free-head", tile=96)
    assert sheet[:96, :96].any() and not np.array_equal(
        sheet, contact_sheet(batch, loader.names, "free-hand", "free-head", tile=96)
    )


def test_inspect_data(studio: Path, wild: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    output = tmp_path / "sheets" / "batch.png"
    shards = (str(studio), str(wild), str(wild / "a.tar"), str(wild / "*.tar"))
    assert run(Config(shards=shards, output=str(output), count=5, columns=3, tile=96, image_size=64)) == 0
    with Image.open(output) as sheet:
        assert sheet.size == (3 * 96, 2 * (96 + 34))
    printed = capsys.readouterr().out
    assert "batch.png" in printed and f"{23:>9}" in printed and f"{6:>9}" in printed
    assert list((tmp_path / "handface" / "shards").glob("*.safetensors"))


def test_other_bodies_are_reported(studio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from handface.model.bodies.load import FREE

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = tmp_path / "other-head.npz"
    other.write_bytes(FREE["free-head"].read_bytes())
    result = run(Config((str(studio),), str(tmp_path / "x.png"), 3, tile=96, head_model=str(other)))
    assert result == 1 and "left out 3 times: 3D labels of head free-head, not" in capsys.readouterr().out


def test_data_sets_without_a_name_are_told_apart() -> None:
    names: list[str] = []
    for path in ("x/my data", "y/my data/", "s3://bucket/my data.tar", "my data-2", "/"):
        names.append(set_name(path, names))
    assert names == ["my data", "my data-2", "my data.tar", "my data-2-2", "set"]


@pytest.mark.parametrize("bad", [{"shards": ()}, {"count": 0}, {"tile": 8}])
def test_impossible_requests_are_refused(studio: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        run(Config(**({"shards": (str(studio),)} | bad)))
