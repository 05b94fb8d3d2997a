"""Small parts and releases for these tests."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.parts import write_part
from handface.pipeline.engine.record import Record
from handface.pipeline.export.config import ExportConfig
from tests.pipeline.toy_stages import toy_sample

CONFIG = ExportConfig(shard_samples=4, splits={"train": 0.6, "test": 0.4})

HASHES = np.random.default_rng(0).integers(1, 2**63, 100, dtype=np.uint64)  # far apart


def record(number: int, host: str, phash: int | None = None, **columns: str) -> Record:
    known = {"licence": "CC0-1.0", "original_sha256": f"{1000 + number:064x}", **columns}
    item = SourceItem(f"https://{host}/{number}.jpg", columns=tuple(known.items()))
    made = Record(item, sha256=f"{number:064x}", phash=f"{int(HASHES[number] if phash is None else phash):016x}")
    made.original_size = (640, 480)
    made.sample = toy_sample(number, item.uri)
    made.scores = dataclasses.replace(made.sample.meta.scores, contact=number / 100)
    return made


def write_parts(folder: Path, *units: list[Record]) -> str:
    for index, records in enumerate(units):
        write_part(Folder(str(folder)), f"{index:016x}", records, ("read",), "fingerprint")
    return str(folder)


def files(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def index(folder: Path) -> list[dict]:
    return pq.read_table(folder / "index.parquet").to_pylist()
