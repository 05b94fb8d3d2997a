"""The dataset card: README.md with the metadata block that dataset hubs read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from handface.pipeline.export.select import WHY_DROPPED

if TYPE_CHECKING:
    from handface.pipeline.export.manifest import Release
    from handface.pipeline.export.metadata.index import Figures

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
_DESCRIPTION = "Pictures of hands at faces with 2D keypoints and, where they are known, depth and 3D labels."


def dataset_card(made: Release, figures: Figures) -> bytes:
    """README.md: what it is, how much there is, where it comes from, under which licences, and how to read it."""
    name = " ".join(made.name.split())
    sections = [
        f"---\n{_metadata(made, figures)}\n---\n",
        f"# {name}, revision {made.revision}\n",
        f"{str(made.config.get('description') or _DESCRIPTION).strip()}\n",
        _contents(made),
        _origin(made, figures),
        _licences(figures),
        _scores(figures),
        _reading(made),
        "## Takedown\n\n`tombstones.parquet`, if there, lists what was removed on request; do not use copies of it. Ask the "
        "maintainers to remove a\npicture: they run `handface takedown`, which rewrites the shard under a new name and raises the "
        "revision.\n",
    ]
    return "\n".join(section for section in sections if section).encode()


def _metadata(made: Release, figures: Figures) -> str:
    """The YAML block, its keys in the order of the hub's own class."""
    import yaml

    files = [{"split": split, "path": f"{split}-*.tar"} for split, count in made.samples.items() if count]
    data = {
        "license": "cc0-1.0" if [name for name, _ in figures.licences] == ["CC0-1.0"] else "other",
        "size_categories": [_size(sum(made.samples.values()))],
        "task_categories": ["keypoint-detection", "image-to-3d"],
        "pretty_name": " ".join(made.name.split()),
        "tags": ["webdataset", "hand", "face", "contact", "croissant"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"features": [{"name": name, "dtype": kind} for name, kind in _FEATURES.items()]},
    }
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True)).strip()


def _contents(made: Release) -> str:
    rows = []
    for split, count in made.samples.items():
        files = [info for info in made.files.values() if info.samples and info.split == split]
        rows.append((split, f"{count:,}", str(len(files)), f"{sum(f.bytes for f in files) / 1e6:,.1f}"))
    return _table(("split", "samples", "shards", "MB"), rows)


def _origin(made: Release, figures: Figures) -> str:
    total = sum(made.samples.values())
    dropped = {WHY_DROPPED.get(reason, reason): count for reason, count in made.dropped.items()}
    away = [
        (stage, reason, f"{count:,}")
        for stage, reasons in (*made.funnel.items(), ("export", dropped))
        for reason, count in sorted(reasons.items())
    ]
    hosts = [(host, f"{count:,}") for host, count in figures.hosts[:_TOP]]
    text = f"## Where it comes from\n\n{made.inputs:,} inputs; {total:,} published.\n"
    tables = [_table(("turned away by", "reason", "inputs"), away, texts=2), _table(("host", "samples"), hosts)]
    return "\n".join([text, *(table for table in tables if table)])


def _licences(figures: Figures) -> str:
    rows = [(name, f"{count:,}") for name, count in figures.licences]
    text = "## Licences\n\nEvery sample keeps its own licence; `licences.csv` lists them with authors and pages.\n"
    if figures.unlicensed:
        text += (
            f"\nNothing is known of the licence of {figures.unlicensed:,} of them (`unknown`): find out who holds the rights before you "
            "pass them on.\n"
        )
    return "\n".join([text, _table(("licence", "samples"), rows)])


def _scores(figures: Figures) -> str:
    rows = [(name, *(f"{value:.2f}" for value in values)) for name, values in figures.quantiles().items()]
    return "## Scores\n\n" + _table(("score", "5 %", "median", "95 %"), rows) if rows else ""


def _reading(made: Release) -> str:
    shards = {name: info for name, info in made.files.items() if info.samples}
    if not shards:
        return "## How to read it\n\nNothing is left in it: all of its samples were taken down.\n"
    return READING.replace("SHARD", max(shards, key=lambda name: shards[name].bytes))


# webdataset's own "rgb8" and "pil" cut 16-bit pictures off at 255.
READING = """## How to read it

Plain WebDataset tars, no pickle inside: `.jpg`, `.safetensors`, `.json` per sample, `.depth.png` and `.mask.png` where there are
any. `index.parquet` has a row per sample, `SHA256SUMS` the checksums, `croissant.json` the machine-readable description.

```python
import io
import numpy, PIL.Image, webdataset

def decode(name, data):
    if name.endswith((".jpg", ".png")):
        return numpy.array(PIL.Image.open(io.BytesIO(data)))

dataset = webdataset.WebDataset("SHARD", shardshuffle=False).decode(decode)
```

Do not use `.decode("rgb8")`: it cuts the 16 bits of depth maps off at 255. `datasets.load_dataset("FOLDER")` (datasets 5 or newer)
reads the types that are declared above, and `ray.data.read_webdataset(FILES)` gives the same arrays.
"""


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]], texts: int = 1) -> str:
    """A Markdown table, "" without rows. texts: leading columns that are no numbers."""
    if not rows:
        return ""
    rules = ["---"] * texts + ["---:"] * (len(names) - texts)
    lines = [f"| {' | '.join(names)} |", f"|{'|'.join(rules)}|"]
    lines += [f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _size(count: int) -> str:
    """The hub's size category."""
    for limit, name in ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M")):
        if count < limit:
            return name
    return "n>10M"
