"""Write one self-contained HTML page about parts: the funnel, why inputs were turned away, and a contact sheet with labels drawn."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from handface.jobs.shared.outputs import OneFile
from handface.pipeline.report.collect import ReportConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """What to show and where to write it."""

    parts: tyro.conf.Positional[tuple[str, ...]]
    """Folders of parts, or plain shards (which have no funnel); local paths or fsspec URIs."""
    output: Annotated[str, OneFile()] = "report.html"
    """The page, a path or fsspec URI."""
    report: tyro.conf.OmitArgPrefixes[ReportConfig] = ReportConfig()


def run(config: Config) -> int:
    """Collect, render, write. Returns 0, or 1 if no sample could be shown."""
    from rich.console import Console
    from rich.progress import Progress

    from handface.jobs.shared.messages import wants_bar
    from handface.pipeline.contract.storage import Folder, absolute
    from handface.pipeline.report.collect import collect
    from handface.pipeline.report.page import render

    if not config.parts:
        raise ValueError("name at least one folder of parts")
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not wants_bar()) as progress:
        task = progress.add_task("report", total=1.0)
        report = collect(
            [absolute(uri) for uri in config.parts], config.report, lambda done: progress.update(task, completed=done)
        )
    page = render(report).encode()
    folder, _, name = absolute(config.output).rpartition("/")
    Folder(folder).write(name, page)
    log.info("%s: %d of %d samples, %.1f MB", config.output, len(report.samples), report.kept, len(page) / 1e6)
    return 0 if report.samples else 1


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("report"))
