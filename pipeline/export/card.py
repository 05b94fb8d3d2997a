"""The dataset card (README.md with the metadata block that dataset hubs read) and the licence ledger."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from handface.pipeline.export.manifest import Release

UNKNOWN = "unknown"
_TOP = 20
# For the `datasets` library, which would guess from the first five samples, and stumble over the first licence after five without.
_FEATURES = {
    "jpg": "image",
    "json": "json",
    "safetensors": "binary",
    "depth.png": "image",
    "mask.png": "image",
    "__key__": "string",
    "__url__": "string",
}
_SCORES = ("contact", "proximity", "occlusion", "face_confidence", "hand_confidence", "agreement", "sharpness")


def licence_ledger(index: pa.Table) -> bytes:
    """CSV, a line per sample: key, licence, author, page, uri; what attribution needs."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = ("key", "licence", "author", "page", "uri", "member")
    writer.writerow(columns)
    writer.writerows(zip(*([value or "" for value in index[name].to_pylist()] for name in columns), strict=True))
    return buffer.getvalue().encode()


def licences(index: pa.Table) -> list[tuple[str, int]]:
    """Licences and how many samples have each, most frequent first."""
    counts = Counter(value or UNKNOWN for value in index["licence"].to_pylist())
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def dataset_card(made: Release, index: pa.Table) -> bytes:
    """README.md: what it is, how much there is, where it comes from, under which licences, and how to read it."""
    shards = {name: info for name, info in made.files.items() if info.samples}
    total = sum(made.samples.values())
    found = licences(index)
    free = {name for name, _ in found}
    lines = [
        "---",
        f"pretty_name: {made.name}",
        f"license: {'cc0-1.0' if free == {'CC0-1.0'} else 'other'}",
        "task_categories: [keypoint-detection, image-to-3d]",
        "tags: [webdataset, hand, face, contact, croissant]",
        f"size_categories: [{_size(total)}]",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(f"  - {{split: {split}, path: '{split}-*.tar'}}" for split, count in made.samples.items() if count),
        "dataset_info:",
        "  features:",
        *(f"  - {{name: {name}, dtype: {kind}}}" for name, kind in _FEATURES.items()),
        "---",
        "",
        f"# {made.name}, revision {made.revision}",
        "",
        str(
            made.config.get("description")
            or "Pictures of hands at faces with 2D keypoints, depth and, where known, 3D labels."
        ).strip(),
        "",
        "| split | samples | shards | MB |",
        "|---|---:|---:|---:|",
    ]
    for split, count in made.samples.items():
        files = [info for info in shards.values() if info.split == split]
        lines.append(f"| {split} | {count:,} | {len(files)} | {sum(f.bytes for f in files) / 1e6:,.1f} |")
    lines += ["", "## Where it comes from", "", f"{made.inputs:,} inputs; {total:,} published.", ""]
    if made.funnel or made.dropped:
        lines += ["| turned away by | reason | inputs |", "|---|---|---:|"]
    for stage, reasons in made.funnel.items():
        lines += [f"| {stage} | {reason} | {count:,} |" for reason, count in sorted(reasons.items())]
    lines += [f"| export | {reason} | {count:,} |" for reason, count in made.dropped.items()]
    hosts = Counter(value or "(files)" for value in index["host"].to_pylist())
    lines += ["", "| host | samples |", "|---|---:|"]
    lines += [f"| {host} | {count:,} |" for host, count in sorted(hosts.items(), key=lambda p: (-p[1], p[0]))[:_TOP]]
    lines += [
        "",
        "## Licences",
        "",
        "Every sample keeps its own licence; `licences.csv` lists them with authors and pages.",
        "",
    ]
    lines += ["| licence | samples |", "|---|---:|", *(f"| {name} | {count:,} |" for name, count in found)]
    if quantiles := _quantiles(index):
        lines += ["", "## Scores", "", "| score | 5 % | median | 95 % |", "|---|---:|---:|---:|", *quantiles]
    lines += [
        "",
        "## How to read it",
        "",
        "Plain WebDataset tars, no pickle inside: `.jpg`, `.safetensors`, `.json` per sample. `index.parquet` has a row per sample,",
        "`SHA256SUMS` the checksums, `croissant.json` the machine-readable description.",
        "",
        "```python",
        "import webdataset",
        f"dataset = webdataset.WebDataset('{max(shards, key=lambda name: shards[name].bytes)}').decode('rgb')",
        "```",
        "",
        "or, with the types that are declared above, `datasets.load_dataset('FOLDER')` (datasets 5 or newer).",
        "",
        "## Takedown",
        "",
        "`tombstones.parquet`, if there, lists what was removed on request; do not use copies of it. Ask the maintainers to remove a",
        "picture: they run `handface takedown`, which rewrites the shard and raises the revision.",
        "",
    ]
    return "\n".join(lines).encode()


def _quantiles(index: pa.Table) -> list[str]:
    import numpy as np

    lines = []
    for name in _SCORES:
        values = [value for value in index[name].to_pylist() if value is not None]
        if values:
            low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
            lines.append(f"| {name} | {low:.2f} | {middle:.2f} | {high:.2f} |")
    return lines


def _size(count: int) -> str:
    """The hub's size category."""
    for limit, name in ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M")):
        if count < limit:
            return name
    return "n>10M"
