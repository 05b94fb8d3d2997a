"""Export against a plain copy of the same bytes on the same disk, in one run.

A plain copy is the parts' tars copied file by file in the kernel (sendfile, as shutil.copyfile does), each with an fsync, since the
export's files are synced too. It is done twice: as `cp` does it, what was written staying in memory, and with each file's memory given
back once it is on the disk, as the export does. Where unused memory goes back to a virtual machine's host the first is much slower, since
it takes fresh memory for every page; the goal is held against the faster one. Small samples: random pictures of 20 to 60 kB (40 kB on
average, a 256 px crop is 20 to 40 kB) with keypoints and JSON. Imports are done before; reading the parts' tables, selection, checksums and metadata count.

python -m benchmarks.pipeline.export --save
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

from benchmarks.results import report, tabulate
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.sample import Crop, Labels, Sample, SampleMeta, Scores, Source, sample_key
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.parts import write_part
from handface.pipeline.engine.record import Record
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.release import release

GOAL = 0.6
CP, STEADY, EXPORT = "copy", "copy, memory given back", "export"


@dataclasses.dataclass(frozen=True)
class Config:
    samples: int = 50_000
    """Samples to export."""
    image_bytes: tuple[int, int] = (20_000, 60_000)
    """Smallest and largest size of a picture."""
    unit: int = 500
    """Samples per part."""
    rounds: int = 3
    """Turns of copy and export; the median of their ratios counts."""
    folder: Path | None = None
    """Where to work; needs three times the data's size. Default: a temporary folder."""
    save: bool = False
    """Write the figures to docs/results/export.csv and its page."""


def make_parts(config: Config, folder: Path) -> None:
    """Parts of samples with random pictures and the labels that every sample has."""
    rng = np.random.default_rng(0)
    for start in range(0, config.samples, config.unit):
        records = []
        for number in range(start, min(start + config.unit, config.samples)):
            image = b"\xff\xd8" + rng.bytes(int(rng.integers(*config.image_bytes)))
            uri, sha256 = f"https://host{number % 997}.org/{number}.jpg", f"{number:064x}"
            phash = f"{int(rng.integers(1, 2**63)):016x}"
            scores = Scores(0.9, 1.0, 0.2, 0.8, 0.7, None, 100.0)
            crop = Crop(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 256, 640, 480)
            meta = SampleMeta(sample_key(image), Source(uri, sha256, phash, licence="CC0-1.0"), crop, scores, ())
            points = np.zeros((68, 3), np.float32), np.zeros((1, 21, 3), np.float32)
            sample = Sample(image, Labels(*points, np.array([1], np.uint8)), meta)
            records.append(Record(SourceItem(uri), sha256=sha256, phash=phash, scores=scores, sample=sample))
        write_part(Folder(str(folder)), f"{start:016x}", records, ("read",), "benchmark")


def copy(source: Path, target: Path, keep: bool) -> None:
    """What `cp` does, and on disk afterwards as the export is. keep: in memory too."""
    target.mkdir()
    for path in sorted(source.glob("*.tar")):
        with path.open("rb") as reading, (target / path.name).open("wb") as writing:
            while os.sendfile(writing.fileno(), reading.fileno(), None, 16 << 20):
                pass
            os.fsync(writing.fileno())
            if not keep:
                os.posix_fadvise(writing.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(config: Config) -> None:
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        root = Path(name)
        make_parts(config, root / "parts")
        size = sum(path.stat().st_size for path in (root / "parts").glob("*.tar"))
        release([str(root / "parts")], str(root / "warm"), ExportConfig(subset="host == 'host1.org'"))  # imports
        load = os.getloadavg()[0]
        seconds: dict[str, list[float]] = {CP: [], STEADY: [], EXPORT: []}
        for turn in range(config.rounds):
            for what, times in seconds.items():
                out = root / f"{what}{turn}"
                os.sync()
                start = time.perf_counter()
                if what == EXPORT:
                    release([str(root / "parts")], str(out), ExportConfig())
                else:
                    copy(root / "parts", out, what == CP)
                times.append(time.perf_counter() - start)
                shutil.rmtree(out)
        middle = {what: statistics.median(times) for what, times in seconds.items()}
    print(
        f"{config.samples:,} samples of {size / config.samples / 1e3:.0f} kB, {size / 1e6:,.0f} MB, {os.cpu_count()} cores, load "
        f"{load:.1f} before the turns"
    )
    table = {
        what: {
            "seconds, each turn": ", ".join(f"{one:.2f}" for one in seconds[what]),
            "median": f"{value:.2f}",
            "MB/s": f"{size / 1e6 / value:,.0f}",
            "export's rate of this one's": f"{value / middle[EXPORT]:.0%}",
        }
        for what, value in middle.items()
    }
    report("export", tabulate("export against a plain copy", table), config.save)
    shares = [min(copies) / export for *copies, export in zip(*seconds.values(), strict=True)]
    share = statistics.median(shares)
    print(
        f"Of the faster copy's rate of the same turn: {', '.join(f'{one:.0%}' for one in shares)}; median {share:.0%}, the goal "
        f"of {GOAL:.0%} is {'met' if share >= GOAL else 'missed'}."
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
