"""Write one self-contained HTML page about parts: the funnel, why inputs were turned away, and a contact sheet with labels drawn."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from handface.jobs.shared.outputs import OneFile
from handface.pipeline.report.collect import ReportConfig

if TYPE_CHECKING:
    from handface.pipeline.report.collect import Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """What to show and where to write it."""

    parts: tyro.conf.Positional[tuple[str, ...]]
    """Folders of parts, or plain shards (which have no funnel); local paths or fsspec URIs."""
    output: Annotated[str, OneFile()] = "report.html"
    """The page, a path or fsspec URI."""
    checksums: bool = False
    """Also read every file and compare its checksum; without, sizes, tables and the samples that are shown are looked at."""
    report: tyro.conf.OmitArgPrefixes[ReportConfig] = ReportConfig()


def run(config: Config) -> int:
    """Collect, render, write. Returns 0, or 1 if no sample could be shown or a file was damaged."""
    from handface.jobs.shared.progress import Progress
    from handface.pipeline.contract.damage import EVERYTHING, TABLES, Damage
    from handface.pipeline.contract.storage import Folder, absolute
    from handface.pipeline.report.collect import collect
    from handface.pipeline.report.page import render

    if not config.parts:
        raise ValueError("name at least one folder of parts")
    # parts whose tables are broken have no reasons to show
    damage = Damage(EVERYTHING if config.checksums else TABLES)
    with Progress("reading", unit="samples") as progress:
        report = collect([absolute(uri) for uri in config.parts], config.report, progress.advance, damage)
    page = render(report).encode()
    folder, _, name = absolute(config.output).rpartition("/")
    Folder(folder).write(name, page)
    log.info("%s: %d of %d samples, %.1f MB", config.output, len(report.samples), report.kept, len(page) / 1e6)
    if not report.samples:
        print(_why_empty(report))
    return max(damage.report(), 0 if report.samples else 1)


def _why_empty(report: Report) -> str:
    """Why the page shows no sample."""
    if report.kept:
        return f"none of the {report.kept:,} samples can be read, so the page shows none"
    turned_away = (
        f"of {report.funnel.inputs:,} inputs none was kept" if report.funnel.inputs else "there are no samples"
    )
    return f"{turned_away}, so the page shows no picture of a sample"


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("report"))
