"""Measured figures as data: one CSV per subject under docs/results, from which the tables of its page are made.

A figure's name is `table | row | column`; `render_page` fills the table of that name in `docs/results/SUBJECT.md`, between
`<!-- figures: table -->` and `<!-- end -->`. `python -m benchmarks.results` fills all pages anew.
"""

from __future__ import annotations

import csv
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "results"
_TABLE = re.compile(r"(<!-- figures: (?P<table>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: `table | row | column`.
        value: the number, or a word where there is none.
        unit: as it stands in the table, e.g. `ms`, `%`, `images/s`.
    """

    name: str
    value: str
    unit: str = ""


@dataclass(frozen=True)
class Row(Figure):
    """A figure and where it is from."""

    command: str = ""
    machine: str = ""
    date: str = ""
    commit: str = ""


def tabulate(table: str, rows: Mapping[str, Mapping[str, str]]) -> list[Figure]:
    """{row: {column: value}} -> the figures of a table."""
    return [
        Figure(f"{table} | {row} | {column}", value)
        for row, columns in rows.items()
        for column, value in columns.items()
    ]


def report(subject: str, figures: Sequence[Figure], save: bool) -> None:
    """Print the figures as tables and, if asked, save them (`save_figures`)."""
    found = [Row(**asdict(one)) for one in figures]
    for table in dict.fromkeys(one.name.partition(" | ")[0] for one in figures):
        print(f"\n{table}\n{make_table(table, found).partition('Measured by')[0]}")
    if save:
        save_figures(subject, figures)


def save_figures(subject: str, figures: Sequence[Figure], command: str = "", folder: Path = FOLDER) -> Path:
    """Write a run's figures into the subject's CSV and its page.

    Args:
        subject: names `SUBJECT.csv` and `SUBJECT.md`.
        figures: they replace those of the same names; others stay.
        command: what was run; by default this process's module and arguments.
        folder: where the files lie.

    Returns:
        The CSV.
    """
    command = command or _own_command()
    origin = {"command": command, "machine": _machine(), "date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": _commit()}
    file = folder / f"{subject}.csv"
    rows = {row.name: row for row in read_figures(file)}
    rows |= {one.name: Row(one.name, str(one.value), one.unit, **origin) for one in figures}
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [one.name for one in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows.values())
    render_page(subject, folder)
    return file


def read_figures(file: Path) -> list[Row]:
    """The rows of a CSV in order; none if there is no file."""
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        return [Row(**row) for row in csv.DictReader(stream)]


def render_page(subject: str, folder: Path = FOLDER) -> None:
    """Fill the tables of `SUBJECT.md` from `SUBJECT.csv`. Raises KeyError for a table without figures."""
    page, rows = folder / f"{subject}.md", read_figures(folder / f"{subject}.csv")
    if page.exists():
        text = page.read_text()
        page.write_text(_TABLE.sub(lambda match: match[1] + make_table(match["table"], rows) + match[3], text))


def make_table(table: str, rows: Sequence[Row]) -> str:
    """A Markdown table: a line per row name, a column per column name, in the order of the figures."""
    cells: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    origins: dict[str, None] = {}
    for row in rows:
        name, _, rest = row.name.partition(" | ")
        if name == table:
            line, _, column = rest.partition(" | ")
            cells.setdefault(line, {})[column] = f"{row.value} {row.unit}".strip()
            columns[column] = None
            origins[f"`{row.command}`, {row.machine}, {row.date}, commit {row.commit}"] = None
    if not cells:
        raise KeyError(f"no figures of table {table!r}")
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    lines += [
        f"| {line} | " + " | ".join(found.get(column, "") for column in columns) + " |" for line, found in cells.items()
    ]
    return "\n".join([*lines, "", *(f"Measured by {origin}.  " for origin in origins)]) + "\n"


def _own_command() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = f"python -m {spec.name}" if spec is not None else f"python {sys.argv[0]}"
    # whose machine it was is of no use to a reader: of a path from the root, its last name
    return " ".join([name, *(Path(word).name if word.startswith("/") else word for word in sys.argv[1:])])


def _machine() -> str:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return f"{platform.system()} {platform.machine()}, {device}"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    for csv_file in sorted(FOLDER.glob("*.csv")):
        render_page(csv_file.stem)
