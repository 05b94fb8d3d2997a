"""The whole way from URLs to a published dataset on a local cluster of several Ray nodes, one of which is killed on the way.

Synthetic scenes are served by a small web on loopback, crawled, annotated (that is when a node dies), validated, exported, and read by
stock webdataset, datasets and our trainer. Every step is the verb that a real cluster would run. Try this before you rent machines.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from handface.extras import require
from handface.pipeline.contract.config import Count

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

    from handface.jobs.rehearsal.web import Web

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """How much, and where to."""

    output: Path = Path("out/rehearsal")
    """A new folder for scenes, crawl, parts and dataset."""
    scenes: Count = 24
    """Pictures on the web."""
    sites: Count = 6
    """Hosts that they are spread over."""
    nodes: Count = 2
    """Nodes with a CPU each, beside a head without; one of them dies."""


@dataclass(frozen=True)
class RehearsalCheck:
    """A number and what it must be."""

    what: str
    found: int | None
    wanted: int

    @property
    def good(self) -> bool:
        """None is a library that is not here."""
        return self.found is None or self.found == self.wanted


def run(config: Config) -> int:
    """Do it all and print what came out. Returns 0, the first failed step's exit code, or 1 if a number is not what it must be."""
    from handface.jobs.rehearsal.nodes import killed_when, several_nodes
    from handface.jobs.rehearsal.web import serve

    require("rehearse", "handface rehearse", "webdataset")
    if config.nodes < 2:
        raise ValueError(f"--nodes {config.nodes}: at least 2, for one of them dies")
    if config.output.exists() and any(config.output.iterdir()):
        raise ValueError(f"{config.output} is not empty: a rehearsal starts from nothing; choose another --output")
    if code := render_scenes(config):
        return code
    pictures = write_pictures(config)
    with serve(pictures, config.sites) as web, several_nodes(config.nodes) as cluster:
        if code := crawl(config, web):
            return code
        with killed_when(cluster, lambda: any(parts_in(config).glob("part-*.json"))) as killed:
            code = annotate(config)
        if code:
            return code
        report_nodes(cluster, killed())
    for verb in (["validate", str(parts_in(config))], export_command(config)):
        if code := handface(*verb):
            return code
    return show(checks(config, len(pictures), killed()))


def render_scenes(config: Config) -> int:
    """Synthetic scenes in scenes/."""
    from handface.jobs import synthesize

    return synthesize.run(
        synthesize.Config(count=config.scenes, size=384, output=str(config.output / "scenes"), local=True)
    )


def write_pictures(config: Config) -> list[Path]:
    """The scenes' pictures in pictures/."""
    from handface.jobs.demonstration.pictures import write_scene_pictures

    folder = config.output / "pictures"
    folder.mkdir(parents=True)
    return write_scene_pictures(config.output / "scenes", folder)


def crawl(config: Config, web: Web) -> int:
    """Half of the sites by their pages, half by a list with licences; robots.txt and every other check on."""
    listing = config.output / "urls.csv"
    web.write_list(listing)
    command = ["crawl", "--input", str(listing), "--seeds", *web.seeds(), "--output", str(config.output / "crawl")]
    command += ["--contact", "rehearsal@example.org", "--unit-size", "8", "--workers", str(config.nodes)]
    return handface(*command, "--http.open-ranges", "127.0.0.0/8", "--http.host-interval", "0.01", *web.resolve())


def annotate(config: Config) -> int:
    """In small units, so that several are left when the node dies."""
    size = max(1, config.scenes // 8)
    command = ["annotate", "--input", str(config.output / "crawl"), "--output", str(parts_in(config))]
    return handface(*command, "--unit-size", str(size), "--workers", str(config.nodes))


def export_command(config: Config) -> list[str]:
    """Splits that share no site."""
    shares = ["--splits.train", "0.6", "--splits.validation", "0.2", "--splits.test", "0.2"]
    return ["export", str(parts_in(config)), "--output", str(config.output / "dataset"), *shares]


def handface(verb: str, *arguments: str) -> int:
    """Run a verb as a person would."""
    log.info("handface %s %s", verb, " ".join(arguments))
    return subprocess.run([sys.executable, "-m", f"handface.jobs.{verb}", *arguments], check=False).returncode


def parts_in(config: Config) -> Path:
    """Folder of the annotated parts."""
    return config.output / "parts"


def report_nodes(cluster: Cluster, killed: bool) -> None:
    """Say on the log what became of the cluster."""
    left = len(cluster.worker_nodes)
    log.info("annotated; %s, %d of the working nodes left", "one node was killed" if killed else "no node died", left)


def checks(config: Config, pictures: int, killed: bool) -> list[RehearsalCheck]:
    """Nothing lost, nothing twice, and everybody reads the same number of samples."""
    import pyarrow.parquet as pq

    from handface.jobs.rehearsal.readers import READERS
    from handface.pipeline.contract.parts import read_parts
    from handface.pipeline.contract.storage import Folder
    from handface.pipeline.export.manifest import read_release

    rows = pq.read_table(config.output / "crawl" / "urls.parquet", columns=["uri", "reason"]).to_pylist()
    fetched = [row["uri"] for row in rows if row["reason"] is None and row["uri"].endswith(".jpg")]
    annotated = [row["uri"] for part in read_parts(str(parts_in(config))) for row in part.rows().to_pylist()]
    dataset = config.output / "dataset"
    release = read_release(Folder(str(dataset)))
    assert release is not None  # the export ended well
    total = sum(release.samples.values())
    return [
        RehearsalCheck("nodes killed while annotating", int(killed), 1),
        RehearsalCheck("pictures fetched, once each", len(set(fetched)), pictures),
        RehearsalCheck("rows of pictures in urls.parquet", len(fetched), pictures),
        RehearsalCheck("pictures that annotation accounts for", len(set(annotated)), pictures),
        RehearsalCheck("rows of annotation", len(annotated), pictures),
        RehearsalCheck("samples in the dataset: at least one", min(total, 1), 1),
        *(RehearsalCheck(f"samples that {name} reads", read(dataset), total) for name, read in READERS.items()),
    ]


def show(found: list[RehearsalCheck]) -> int:
    """Print the table. Returns 1 if something is not as it must be."""
    from rich.console import Console
    from rich.table import Table

    table = Table("check", "found", "must be", "")
    for check in found:
        value = "not installed" if check.found is None else f"{check.found:,}"
        table.add_row(check.what, value, f"{check.wanted:,}", "ok" if check.good else "WRONG")
    Console().print(table)
    return 0 if all(check.good for check in found) else 1


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("rehearse"))
