"""Bodies are those that the shards name, or those given; a set that gives no 3D label is an error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handface.model.bodies.load import FREE
from handface.trainers.data import DataConfig, DataError, DatasetConfig, make_loader
from handface.trainers.data.probe import with_bodies
from handface.trainers.data.summary import summarise_data
from tests.trainers.labelled import studio_samples


@pytest.fixture
def decaf(make_sample: Any, write_tar: Any, tmp_path: Path) -> Path:
    """Samples as `decaf-to-shards` names them: MANO, and FLAME in Decaf's convention."""
    samples = studio_samples(make_sample, 4)
    labels = {"hand_model": "mano", "head_model": "flame-decaf"}
    changed = [replace(s, labels=replace(s.labels, head_pose=s.labels.head_pose[:2], **labels)) for s in samples]
    return Path(write_tar(tmp_path / "decaf.tar", changed))


def test_labels_of_licensed_bodies_are_used_once_their_files_are_given(
    config: Callable[..., DataConfig], decaf: Path, tmp_path: Path
) -> None:
    given = {}
    for part, name in (("hand", "mano"), ("head", "flame")):
        given[f"{part}_body"] = str(shutil.copy(FREE[f"free-{part}"], tmp_path / f"{name}.npz"))
    data = config(DatasetConfig("decaf", (str(decaf),)))
    with pytest.raises(DataError, match="hand model 'mano'; give its file with --hand-model"):
        with_bodies(data)
    with pytest.raises(DataError, match="head model 'flame'; give its file with --head-model"):
        with_bodies(replace(data, hand_body=given["hand_body"]))
    found = with_bodies(replace(data, **given))
    assert (found.hand_body, found.head_body) == (given["hand_body"], given["head_body"])
    batch = next(iter(make_loader(found)))
    assert batch.has_mesh.all() and batch.decaf_head.all()
    with pytest.raises(DataError, match=r"none of 4 samples gives a 3D label \(.*mano, not free-hand"):
        with_bodies(replace(data, hand_body="free-hand", head_body="free-head"))
    weak = with_bodies(config(DatasetConfig("decaf", (str(decaf),), weak=True)))
    assert (weak.hand_body, weak.head_body) == ("free-hand", "free-head")


def test_free_bodies_need_no_naming(config: Callable[..., DataConfig], studio: Path, wild: Path) -> None:
    found = with_bodies(config(studio, DatasetConfig("wild", (str(wild),), weak=True)))
    assert (found.hand_body, found.head_body) == ("free-hand", "free-head")
    with pytest.raises(DataError, match=r"data set wild0?: none of \d+ samples gives a 3D label \(they have none\)"):
        with_bodies(config(studio, wild))


@pytest.mark.parametrize("weak", [False, True])
def test_fitted_labels_count_where_they_are_taken(
    config: Callable[..., DataConfig], make_sample: Any, write_tar: Any, tmp_path: Path, weak: bool
) -> None:
    """Looked at before the run as the loader will take them."""
    changes = {"origin_3d": "fitted", "fit_quality": 1.0}
    samples = [replace(s, labels=replace(s.labels, **changes)) for s in studio_samples(make_sample, 4)]
    fitted = DatasetConfig("photos", (str(write_tar(tmp_path / "photos.tar", samples)),), weak=weak)
    if weak:
        assert [one.mesh for one in summarise_data(config(fitted))] == [0]
    else:
        with pytest.raises(
            DataError, match=r"none of 4 samples gives a 3D label \(they are fitted .* `fitted: true`\)"
        ):
            with_bodies(config(fitted))
    taken = with_bodies(config(replace(fitted, fitted=True)))
    (one,) = summarise_data(taken)
    assert (one.mesh, one.contact, one.fitted) == (4, 4, 4)
    assert next(iter(make_loader(taken))).has_mesh.all()
