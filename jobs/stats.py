"""Figures of finished parts or of a release: the funnel, and how many samples each host and each licence gave."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from handface.counted import counted
from handface.pipeline.contract.config import Count

if TYPE_CHECKING:
    from handface.pipeline.export.metadata.index import Figures


@dataclass(frozen=True)
class Config:
    """What to count."""

    folder: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders or URIs with parts, or one release of `handface export`."""
    top: Count = 20
    """Rows of each table."""
    checksums: bool = False
    """Also read every file and compare its checksum; without, sizes and tables are looked at."""


def run(config: Config) -> int:
    """Print the tables. Returns 0, or 1 if damaged files were left out."""
    from handface.pipeline.contract.damage import EVERYTHING, TABLES, Damage
    from handface.pipeline.contract.storage import Folder, absolute
    from handface.pipeline.export.manifest import INDEX, MANIFEST, read_release
    from handface.pipeline.export.metadata.index import Figures, index_tables

    figures, damage = Figures(), Damage(EVERYTHING if config.checksums else TABLES)
    folders = [absolute(uri) for uri in config.folder]
    made = read_release(Folder(folders[0])) if len(folders) == 1 else None
    if made is not None:
        damage.check(Folder(folders[0]), MANIFEST, made.files, Folder(folders[0]).sizes())
        if (index := f"{folders[0].rstrip('/')}/{INDEX}") in damage.files:
            raise ValueError(f"{index}: {damage.files[index]}; export the parts again")
        print(f"{made.name}, revision {made.revision}")
        _print_counts("split", list(made.samples.items()), sum(made.samples.values()), config.top)
        _print_reasons(made.funnel | ({"export": made.dropped} if made.dropped else {}), made.inputs)
        for table in index_tables(Folder(folders[0]), [*figures.columns, "host"]):
            figures.add(table)
        _print_sources(figures, config.top)
        return damage.report()
    from handface.pipeline.export.catalogue import read_catalogue

    catalogue = read_catalogue(folders, damage)
    _print_reasons(catalogue.funnel, catalogue.inputs)
    for table in catalogue.tables(figures.columns):
        figures.add(table)
    _print_sources(figures, config.top)
    return damage.report()


def _print_reasons(funnel: dict[str, dict[str, int]], inputs: int) -> None:
    rows = [(f"{stage}: {reason}", count) for stage, reasons in funnel.items() for reason, count in reasons.items()]
    print(f"{counted(inputs, 'input')}, {sum(count for _, count in rows):,} turned away")
    _print_counts("turned away", sorted(rows, key=lambda row: -row[1]), inputs, len(rows))


def _print_sources(figures: Figures, top: int) -> None:
    _print_counts("host", figures.hosts, figures.samples, top)
    _print_counts("licence", figures.licences, figures.samples, top)


def _print_counts(what: str, counts: list[tuple[str, int]], total: int, top: int) -> None:
    from rich.console import Console
    from rich.table import Table

    if not counts:
        return
    table = Table(what, title_justify="left")
    table.add_column("count", justify="right")
    table.add_column("share", justify="right")
    for name, count in counts[:top]:
        table.add_row(name, f"{count:,}", f"{count / max(total, 1):.1%}")
    if len(counts) > top:
        table.add_row(f"({len(counts) - top:,} more)", f"{sum(c for _, c in counts[top:]):,}", "")
    Console().print(table)


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("stats"))
