"""What a release consists of: the names of its files, and the manifest that is written last."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from handface.pipeline.contract.sample import SCHEMA_VERSION
from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.catalogue import ExportError

MANIFEST, INDEX, DROPPED, CHECKSUMS = "manifest.json", "index.parquet", "dropped.parquet", "SHA256SUMS"
# of the layout of a release: names of shards, columns of the index, what is published of addresses
RELEASE_VERSION = "3"
CARD, LEDGER, CROISSANT, TOMBSTONES = "README.md", "licences.csv", "croissant.json", "tombstones.parquet"


@dataclass(frozen=True)
class ReleaseFile:
    """One file of a release. samples: 0 for what is no shard."""

    bytes: int
    sha256: str
    samples: int = 0
    split: str = ""


@dataclass(frozen=True)
class Release:
    """The content of `manifest.json`.

    revision: 1, and one more with every takedown.  samples: per split.  dropped: per reason.  funnel: {stage: {reason: count}}
    of the parts; inputs: what they started from.  fingerprint: of the configuration, of the parts' content and of the samples
    that were chosen.  release_version: of the layout; releases from before it was noted have "1".
    """

    name: str
    revision: int
    samples: dict[str, int]
    inputs: int
    funnel: dict[str, dict[str, int]]
    dropped: dict[str, int]
    config: dict[str, Any]
    fingerprint: str
    files: dict[str, ReleaseFile]
    schema_version: str = SCHEMA_VERSION
    release_version: str = RELEASE_VERSION

    def dumps(self) -> bytes:
        """As JSON; equal releases give equal bytes."""
        return (json.dumps(asdict(self), sort_keys=True, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, blob: bytes) -> Release:
        """The inverse of `dumps`. Raises ValueError if it is no manifest."""
        try:
            raw = json.loads(blob)
            raw["files"] = {name: ReleaseFile(**info) for name, info in raw["files"].items()}
            return cls(**{"release_version": "1"} | raw)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a release's manifest ({error})") from error


def read_release(folder: Folder) -> Release | None:
    """The release in a folder, or None. Raises ExportError if its manifest is damaged."""
    if not folder.exists(MANIFEST):
        return None
    try:
        return Release.loads(folder.read(MANIFEST))
    except ValueError as error:
        raise ExportError(f"{folder.uri}/{MANIFEST}: {error}") from error
