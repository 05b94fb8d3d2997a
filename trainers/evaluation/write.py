"""Results as files: results.json, results.csv, table.md, samples.parquet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from handface.trainers.evaluation.facts import Facts, key_of
from handface.trainers.evaluation.run import WHOLE, Difference, Row
from handface.trainers.metrics import BY_NAME, METRICS, Estimate, Metric, Records

Variant = Literal["both", "paper", "corrected"]
PAPER = ("pve", "mpjpe", "pa_mpjpe", "col_dist", "non_col", "touch", "f_score")
CORRECTED = (
    "pve_same",
    "mpjpe_same",
    "pa_mpjpe",
    "col_dist_closed",
    "non_col_closed",
    "touch_closed",
    "f_score_closed",
)


def chosen(rows: Sequence[Row], variant: Variant) -> list[list[Metric]]:
    """The tables to show: one list of metrics each, without those that no row has."""
    found = {name for row in rows for name in row.frames}
    tables = [list(PAPER)] if variant != "corrected" else []
    tables += [list(CORRECTED)] if variant != "paper" else []
    for group in ("contact", "deformation", "picture", "parts"):
        tables.append([metric.name for metric in METRICS if metric.group == group])
    return [kept for names in tables if (kept := [BY_NAME[name] for name in names if name in found])]


def cell(estimate: Estimate | None, metric: Metric) -> str:
    """`8.32 [8.1, 8.6]`, or `-`."""
    if estimate is None or not estimate.known:
        return "-"
    digits = 3 if not metric.unit else 2
    bounds = "" if math.isnan(estimate.low) else f" [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
    return f"{estimate.value:.{digits}f}{bounds}"


def heading(metric: Metric) -> str:
    """Name, unit and which way is good."""
    arrow = "↓" if metric.better == "lower" else "↑"
    return f"{metric.title}{f' ({metric.unit})' if metric.unit else ''} {arrow}"


def _escaped(metric: Metric) -> str:
    """The heading inside a table in Markdown."""
    return heading(metric).replace("|", "\\|")


def title(row: Row) -> str:
    """`network`, or `network, subject S1`."""
    return row.system if row.split == WHOLE else f"{row.system}, {row.split} {row.subset}"


def markdown(rows: Sequence[Row], pairs: Sequence[Difference], variant: Variant, level: float) -> str:
    """All tables as Markdown; intervals over frames, and for whole sets of several subjects over subjects, too."""
    lines = [
        f"Brackets are {100 * level:g} % intervals: over frames by bootstrap, over subjects by jackknife and Student's t. Where subjects come"
        " more than once, believe those over subjects.",
        "",
    ]
    for table in chosen(rows, variant):
        lines.append("| | frames | subjects | " + " | ".join(map(_escaped, table)) + " |")
        lines.append("|---|---|---|" + "---|" * len(table))
        for row in rows:
            if any(metric.name in row.frames for metric in table):
                cells = [cell(row.frames.get(metric.name), metric) for metric in table]
                lines.append(f"| {title(row)} | {row.samples} | {row.subject_count} | " + " | ".join(cells) + " |")
                if row.split == WHOLE and 1 < row.subject_count < row.samples:
                    cells = [cell(row.subjects.get(metric.name), metric) for metric in table]
                    lines.append("| the same, over subjects | | | " + " | ".join(cells) + " |")
        lines.append("")
    for pair in pairs:
        lines += [
            f"## {pair.system} minus {pair.other}, paired over the same {pair.samples} samples",
            "",
            "| | difference | |",
            "|---|---|---|",
        ]
        for metric in (metric for table in chosen(rows, variant) for metric in table):
            if metric.name in pair.estimates:
                found = pair.estimates[metric.name]
                sure = "" if not (found.low > 0 or found.high < 0) else "yes"
                lines.append(f"| {_escaped(metric)} | {cell(found, metric)} | {sure} |")
        lines += ["", "yes: the interval leaves out 0.", ""]
    return "\n".join(lines)


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, list[float | None]]:
    """Value and bounds; NaN as null."""
    return {name: [None if math.isnan(v) else v for v in (e.value, e.low, e.high)] for name, e in estimates.items()}


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Rows as plain values; NaN as null."""
    return [
        {
            "system": row.system,
            "split": row.split,
            "subset": row.subset,
            "samples": row.samples,
            "subjects": row.subject_count,
            "by_frame": _plain(row.frames),
            "by_subject": _plain(row.subjects),
        }
        for row in rows
    ]


def as_csv(rows: Sequence[Row]) -> str:
    """One line per row and metric."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = ["system", "split", "subset", "samples", "subjects", "metric", "unit", "value"]
    writer.writerow([*names, "low", "high", "low_subjects", "high_subjects"])
    for row in rows:
        for name, estimate in row.frames.items():
            other = row.subjects[name]
            bounds = ["" if math.isnan(v) else f"{v:.6g}" for v in (estimate.low, estimate.high, other.low, other.high)]
            where = [row.system, row.split, row.subset, row.samples, row.subject_count]
            writer.writerow([*where, name, BY_NAME[name].unit, f"{estimate.value:.6g}", *bounds])
    return stream.getvalue()


def write_samples(path: Path, records: Mapping[str, Records], facts: Mapping[str, Facts]) -> None:
    """One Parquet row per system and sample: key, facts, and every column that metrics are sums of (lengths in metres)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for system, rows in records.items():
        known = [facts.get(key) for key in rows.keys]
        columns: dict[str, object] = {
            "system": [system] * len(rows),
            "key": [key_of(name) for name in rows.keys],
        }
        for name in ("dataset", "subject", "side", "camera"):
            columns[name] = [None if fact is None else fact.value(name) or None for fact in known]
        tables.append(pa.table(columns | {name: pa.array(values) for name, values in rows.columns.items()}))
    pq.write_table(pa.concat_tables(tables, promote_options="default"), path)


def write_results(
    folder: Path, rows: Sequence[Row], pairs: Sequence[Difference], variant: Variant, level: float, speed: object
) -> None:
    """results.json, results.csv and table.md into a folder that exists."""
    paired = [
        {
            "system": pair.system,
            "minus": pair.other,
            "samples": pair.samples,
            "subjects": pair.subject_count,
            "difference": _plain(pair.estimates),
        }
        for pair in pairs
    ]
    document = {"level": level, "rows": as_json(rows), "paired": paired, "speed": speed}
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "results.csv").write_text(as_csv(rows))
    (folder / "table.md").write_text(markdown(rows, pairs, variant, level), encoding="utf-8")
