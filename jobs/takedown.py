"""Take pictures out of a release: the shard is rewritten, the revision raised, and a tombstone keeps them out for good.

Give the release's `tombstones.parquet` to `--exclude` of later exports and of training, and to later crawls.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from handface.counted import counted
from handface.pipeline.contract.config import Distance


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
    distance: Distance = 6
    """Bits in which the perceptual hash of a copy may differ."""
    reason: str = "requested"
    """Kept with the tombstone."""
    coco: tuple[Path, ...] = ()
    """Folders that `export --coco` wrote; one in the release's folder or beside it is known."""
    verify: bool = False
    """Afterwards, search the release for what was ever taken down of it, and print every file that still holds some. Without a
    picture to take down, only search."""
    look_in: tuple[Path, ...] = ()
    """Further folders that --verify searches: parts, crawls, other releases, reports, folders of photos."""


def run(config: Config) -> int:
    """Remove and search. Returns 0; 1 if the release held nothing of it (the tombstone is written all the same) or it is still there."""
    from datetime import UTC, datetime

    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.export.takedown import TakedownRequest, take_down

    sha256, phash = list(config.sha256), list(config.phash)
    for path in config.image:
        checksum, picture = _names_of(path)
        sha256.append(checksum)
        phash += picture
    output, code = absolute(config.release), 0
    if not (config.verify and not (config.key or config.url or sha256 or phash)):
        request = TakedownRequest(config.key, config.url, tuple(sha256), tuple(phash), config.distance, config.reason)
        today = datetime.now(UTC).date().isoformat()
        done = take_down(output, request, today, tuple(str(folder) for folder in config.coco))
        for key in done.keys:
            print(f"removed {key}")
        files = f"{counted(len(done.shards), 'shard')} rewritten"
        if done.pictures:
            files += f", {counted(done.pictures, 'COCO picture')}"
        print(f"{counted(len(done.keys), 'sample')} removed, {files}, revision {done.revision}: {config.release}")
        code = 0 if done.keys else 1
        if code:
            print("nothing in it has these names; they are kept, so that later exports leave such pictures out")
    if config.verify:
        code = max(code, _verify(config, output))
    return code


def _verify(config: Config, output: str) -> int:
    from pathlib import Path

    from handface.pipeline.contract.storage import Folder
    from handface.pipeline.export.manifest import read_release
    from handface.pipeline.export.metadata.coco import coco_folders
    from handface.pipeline.export.takedown import read_tombstones
    from handface.pipeline.export.verify import find_remains

    folder = Folder(output)
    if read_release(folder) is None:
        raise FileNotFoundError(f"{config.release}: holds no release")
    if not folder.local:
        raise ValueError(f"{config.release}: --verify searches local folders; copy the release here first")
    tombstones = read_tombstones(folder)
    inside = Path(folder.path()).resolve()
    others = (*coco_folders(folder), *map(str, config.coco), *map(str, config.look_in))
    folders = [folder.path(), *(one for one in others if not Path(one).resolve().is_relative_to(inside))]
    files: dict[str, list[str]] = {}
    for one in find_remains(folders, tombstones):
        files.setdefault(one.file, []).append(one.name)
    for file, names in files.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        print(f"still there: {file}: {', '.join(names[:3])}{more}")
    print(
        f"{counted(len(tombstones), 'name')} searched for in {counted(len(folders), 'folder')}, found in {counted(len(files), 'file')}"
    )
    return 1 if files else 0


def _names_of(path: Path) -> tuple[str, list[str]]:
    """Checksum of a picture file, and its perceptual hash as [16 hex digits], [] for a flat picture."""
    import hashlib

    from handface.pipeline.contract.images.phash import hash_hex, perceptual_hash
    from handface.pipeline.contract.images.picture import DecodeConfig, RejectedImage, decode_image

    data = path.read_bytes()
    try:
        # as annotate does: the same pixels give the same hash
        value = perceptual_hash(decode_image(data, DecodeConfig(min_side=1)))
    except RejectedImage as error:
        raise ValueError(f"{path}: not a readable picture ({error})") from error
    return hashlib.sha256(data).hexdigest(), [hash_hex(value)] if value else []


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("takedown"))
