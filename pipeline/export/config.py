"""What an export is: which samples, in which order, in shards of which size, split how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handface.pipeline.contract.config import BaseConfig, MaybeDistance
from handface.pipeline.export.public import public_name

# exclusion lists of one export: each has a bit of a 64-bit number
MOST_LISTS = 64


@dataclass(frozen=True, kw_only=True)
class ExportConfig(BaseConfig):
    """Everything that, with the parts, decides the bytes of a release."""

    name: str = "handface-dataset"
    """Name of the dataset, for its card."""
    description: str = ""
    """A paragraph about it, for its card."""
    splits: Mapping[str, float] = field(default_factory=lambda: {"train": 0.9, "validation": 0.05, "test": 0.05})
    """Shares of the splits. Samples of one group (see group_by), one video, one identity or one family of copies never part."""
    seed: int = 0
    """Decides order and splits."""
    shard_samples: int = 10_000
    """At most so many samples in a shard."""
    shard_bytes: int = 1 << 30
    """At most so many bytes in a shard, unless one sample alone is larger."""
    dedupe_distance: MaybeDistance = 6
    """Bits of 64 in which the perceptual hashes of copies may differ; -1 keeps copies."""
    subset: str = ""
    """Keep rows for which this holds, e.g. "contact > 0.6 and licence in ('CC0-1.0', 'CC-BY-4.0')"."""
    exclude: tuple[str, ...] = ()
    """Parquet files with a column key, dropped, sha256, phash or uri: tombstones of earlier releases, lists of `handface recheck`."""
    test_sets: Mapping[str, str] = field(default_factory=dict)
    """Name -> parquet file or parts folder with perceptual hashes that must not be in the release (benchmarks' test images)."""
    identity_column: str = "identity"
    """Column of the input list that names the person, if there is one."""
    group_by: str = "host"
    """What never parts between splits: host, author, page, or a column of the input list. Where one platform serves everybody's
    pictures, the host says nothing and author is better; samples without a value are kept together by host."""

    def __post_init__(self) -> None:
        if not self.splits or min(self.splits.values()) < 0 or abs(sum(self.splits.values()) - 1) > 1e-6:
            raise ValueError(f"splits {dict(self.splits)}: shares must be at least 0 and add up to 1")
        for name in self.splits:
            if not name.isidentifier():
                raise ValueError(f"split name {name!r}: letters, digits and _ only")
        if self.shard_samples < 1 or self.shard_bytes < 1:
            raise ValueError("shard_samples and shard_bytes must be at least 1")
        if len(self.exclude) > MOST_LISTS:
            raise ValueError(f"exclude names {len(self.exclude)} lists; join them into at most {MOST_LISTS}")
        if not -1 <= self.dedupe_distance <= 11:
            raise ValueError(f"dedupe_distance is {self.dedupe_distance}; -1 (off) to 11")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, as they may be published: lists of this machine by their names."""
        plain = super().as_dict()
        plain["exclude"] = [public_name(uri) for uri in self.exclude]
        plain["test_sets"] = {name: public_name(uri) for name, uri in self.test_sets.items()}
        return plain
