"""What must be able to read a release: stock webdataset, the datasets library, and our own trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from handface.extras import extra


def by_webdataset(release: Path) -> int:
    """Samples with a picture that `webdataset.WebDataset` finds."""
    with extra("rehearse", "the rehearsal's reader webdataset"):
        import webdataset

    return sum("jpg" in sample for sample in webdataset.WebDataset(_shards(release), shardshuffle=False))


def by_datasets(release: Path) -> int | None:
    """Rows of all splits that `datasets.load_dataset` finds; None where that library is not installed."""
    try:
        import datasets
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as cache:
        return sum(datasets.load_dataset(str(release), cache_dir=cache).num_rows.values())


def by_trainer(release: Path) -> int:
    """Samples that one pass of the trainer's loader batches."""
    from handface.trainers.data import DataConfig, DatasetConfig, make_pass

    found = DataConfig((DatasetConfig("release", (str(release),)),), image_size=128, batch_size=8, workers=0)
    return sum(len(batch) for batch in make_pass(found))


def _shards(release: Path) -> list[str]:
    return sorted(str(path) for path in release.glob("*.tar"))


READERS: dict[str, Callable[[Path], int | None]] = {
    "webdataset": by_webdataset,
    "datasets": by_datasets,
    "trainers.data": by_trainer,
}
