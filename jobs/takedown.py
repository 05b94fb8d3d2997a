"""Take pictures out of a release: the shard is rewritten, the revision raised, and a tombstone keeps them out for good.

Give the release's `tombstones.parquet` to `--exclude` of later exports and of training, and to later crawls.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Config:
    """What to remove, from where."""

    release: Annotated[str, tyro.conf.Positional]
    """Folder or URI that `handface export` wrote."""
    url: tuple[str, ...] = ()
    """Addresses of the originals."""
    sha256: tuple[str, ...] = ()
    """Checksums, of the originals as their owners have them or of what was stored."""
    phash: tuple[str, ...] = ()
    """Perceptual hashes, 16 hex digits; near copies go too."""
    key: tuple[str, ...] = ()
    """Keys of samples."""
    image: tuple[Path, ...] = ()
    """The pictures themselves: their checksum and perceptual hash are looked for; original or stored, near copies too."""
    distance: int = 6
    """Bits in which the perceptual hash of a copy may differ."""
    reason: str = "requested"
    """Kept with the tombstone."""


def run(config: Config) -> int:
    """Remove. Returns 0, or 1 if the release held nothing of it (the tombstone is written all the same)."""
    import hashlib
    from datetime import UTC, datetime

    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.export.takedown import Request, take_down

    sha256, phash = list(config.sha256), [value.lower() for value in config.phash]
    for path in config.image:
        data = path.read_bytes()
        sha256.append(hashlib.sha256(data).hexdigest())
        phash.append(_hash(data, path))
    request = Request(
        config.key, config.url, tuple(value.lower() for value in sha256), tuple(phash), config.distance, config.reason
    )
    done = take_down(absolute(config.release), request, datetime.now(UTC).date().isoformat())
    for key in done.keys:
        print(f"removed {key}")
    print(
        f"{len(done.keys)} samples removed, {len(done.shards)} shards rewritten, revision {done.revision}: {config.release}"
    )
    return 0 if done.keys else 1


def _hash(data: bytes, path: Path) -> str:
    import cv2
    import numpy as np

    from handface.pipeline.contract.phash import hash_hex, perceptual_hash

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # turned upright by its EXIF
    if image is None:
        raise ValueError(f"{path}: not a readable picture")
    return hash_hex(perceptual_hash(np.ascontiguousarray(image[..., ::-1])))


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("takedown"))
