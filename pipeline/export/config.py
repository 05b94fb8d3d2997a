"""What an export is: which samples, in which order, in shards of which size, split how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from handface.pipeline.contract.config import BaseConfig


@dataclass(frozen=True, kw_only=True)
class ExportConfig(BaseConfig):
    """Everything that, with the parts, decides the bytes of a release."""

    name: str = "handface-dataset"
    """Name of the dataset, for its card."""
    description: str = ""
    """A paragraph about it, for its card."""
    splits: Mapping[str, float] = field(default_factory=lambda: {"train": 0.9, "validation": 0.05, "test": 0.05})
    """Shares of the splits. Samples of one host, one video, one identity or one family of copies never part."""
    seed: int = 0
    """Decides order and splits."""
    shard_samples: int = 10_000
    """At most so many samples in a shard."""
    shard_bytes: int = 1 << 30
    """At most so many bytes in a shard, unless one sample alone is larger."""
    dedupe_distance: int = 6
    """Bits of 64 in which the perceptual hashes of copies may differ; -1 keeps copies."""
    subset: str = ""
    """Keep rows for which this holds, e.g. "contact > 0.6 and licence in ('CC0-1.0', 'CC-BY-4.0')"."""
    exclude: tuple[str, ...] = ()
    """Parquet files with a column key, dropped, sha256, phash or uri: tombstones of earlier releases, lists of `handface recheck`."""
    test_sets: Mapping[str, str] = field(default_factory=dict)
    """Name -> parquet file or parts folder with perceptual hashes that must not be in the release (benchmarks' test images)."""
    identity_column: str = "identity"
    """Column of the input list that names the person, if there is one."""

    def __post_init__(self) -> None:
        if not self.splits or min(self.splits.values()) < 0 or abs(sum(self.splits.values()) - 1) > 1e-6:
            raise ValueError(f"splits {dict(self.splits)}: shares must be at least 0 and add up to 1")
        for name in self.splits:
            if not name.isidentifier():
                raise ValueError(f"split name {name!r}: letters, digits and _ only")
        if self.shard_samples < 1 or self.shard_bytes < 1:
            raise ValueError("shard_samples and shard_bytes must be at least 1")
        if not -1 <= self.dedupe_distance <= 11:
            raise ValueError(f"dedupe_distance is {self.dedupe_distance}; -1 (off) to 11")
