"""Turns away what must stay out, and exact and near copies inside one work unit; copies across units are found afterwards (pipeline/export/dedupe.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from handface.pipeline.contract.config import MaybeDistance
from handface.pipeline.contract.exclusion import ORIGINAL_SHA256, Exclusion
from handface.pipeline.contract.images.phash import distance, hash_hex, perceptual_hash
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.names.url_names import picture_names
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage


@dataclass(frozen=True)
class DedupeConfig:
    """What counts as a copy."""

    max_distance: MaybeDistance = 6
    """Perceptual hashes that differ in at most this many of 64 bits are copies; -1 keeps them all."""
    exclude: tuple[str, ...] = ()
    """Parquet lists of pictures that must stay out: `tombstones.parquet` of a takedown, copies, refusals."""
    exclude_digest: str = ""
    """Checksum of those lists; filled in when a run starts, so that one run never uses two versions of them."""


class DedupeStage(Stage):
    """Fills phash; the first of several copies in the unit's order stays."""

    name = "dedupe"
    reads = ("image", "sha256")
    writes = ("phash",)

    def __init__(self, config: DedupeConfig = DedupeConfig()) -> None:
        self.config = config

    def setup(self) -> None:
        """Read the lists of what must stay out."""
        self._excluded = [Exclusion.read(uri) for uri in self.config.exclude]
        self.start_unit()

    def start_unit(self) -> None:
        """Forget the hashes of the unit before."""
        self._bytes: dict[str, str] = {}
        self._hashes: list[tuple[int, str]] = []

    def __call__(self, batch: Sequence[Record]) -> None:
        """Compare each photo with those before it in the unit."""
        by_bytes, hashes = dict(self._bytes), list(self._hashes)
        for record in batch:
            assert record.image is not None and record.sha256 is not None
            value = perceptual_hash(record.image)
            record.phash = hash_hex(value)
            sums = {record.sha256, record.item.column(ORIGINAL_SHA256) or record.sha256}
            names = picture_names(record.item.uri, dict(record.item.columns), record.evidence)
            listed = [e.uri for e in self._excluded if e.names(record.item.origin, sums, value, also=names)]
            if listed:
                record.reject(Reason.EXCLUDED, f"named by {listed[0]}")
                continue
            if self.config.max_distance < 0:
                continue
            if twin := by_bytes.get(record.sha256):
                record.reject(Reason.DUPLICATE, f"the same bytes as {twin}")
                continue
            near = [(distance(value, other), name) for other, name in hashes]
            bits, twin = min(near, default=(64, ""))
            if bits <= self.config.max_distance:
                record.reject(Reason.DUPLICATE, f"{bits} of 64 hash bits from {twin}")
                continue
            by_bytes[record.sha256] = record.item.name
            hashes.append((value, record.item.name))
        self._bytes, self._hashes = by_bytes, hashes
