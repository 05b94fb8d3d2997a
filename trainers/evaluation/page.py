"""The results as one HTML page that needs no network and runs no script: tables, speed, and the samples worth looking at."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO

from handface.trainers.evaluation.pictures import Case, Image, Kind
from handface.trainers.evaluation.run import WHOLE, Row
from handface.trainers.evaluation.speed import Speed
from handface.trainers.evaluation.write import Variant, cell, chosen, heading, title
from handface.trainers.metrics import Metric

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1em 0 2em; font-variant-numeric: tabular-nums }
th, td { padding: .3em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
tr.whole td { font-weight: 600 } small { color: #777; font-weight: 400 }
div.scroll { overflow-x: auto } figure { margin: 0 0 1em } img { max-width: 100% } figcaption { color: #555 }
"""
_CAPTION = "picture, prediction, labels where there are 3D ones; then both from the side; red is contact"
_TITLES: Mapping[Kind, str] = {"worst": "Worst samples", "median": "Middling samples", "best": "Best samples"}


def render_page(
    name: str,
    rows: Sequence[Row],
    variant: Variant,
    level: float,
    cases: Mapping[Kind, Sequence[tuple[Case, Image]]],
    speed: Sequence[Speed],
) -> str:
    """The page. name: what was evaluated.  cases: drawn samples by kind. Equal arguments give equal pages."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<title>Evaluation of {escape(name)}</title><style>{_STYLE}</style>",
        f"<h1>Evaluation of {escape(name)}</h1>",
        f"<p>Brackets are {100 * level:g} % intervals, over subjects (Student's t) where these come more than once, else over frames (bootstrap); ↓ lower is better, ↑ higher is better.</p>",
    ]
    parts += [_table(rows, [heading(m) for m in metrics], metrics) for metrics in chosen(rows, variant)]
    if speed:
        parts.append("<h2>Speed</h2><table><tr><th>device<th>precision<th>batch<th>ms per picture")
        parts += [
            f"<tr><td>{escape(s.device)} <small>{s.threads} CPU threads</small><td>{s.precision}<td>{s.batch}<td>{s.milliseconds:.1f}"
            for s in speed
        ]
        parts.append("</table>")
    for kind, drawn in cases.items():
        parts.append(f"<h2>{_TITLES[kind]}</h2><p>{_CAPTION}</p>")
        parts += [
            f'<figure><img alt="" src="{_data_uri(image)}"><figcaption>{escape(case.key)}: {case.error:.1f} {case.unit}</figcaption></figure>'
            for case, image in drawn
        ]
    return "\n".join(parts) + "\n"


def _table(rows: Sequence[Row], headings: Sequence[str], metrics: Sequence[Metric]) -> str:
    lines = ["<div class=scroll><table><tr><th><th>frames" + "".join(f"<th>{escape(h)}" for h in headings)]
    for row in rows:
        if any(metric.name in row.frames for metric in metrics):
            cells = [cell(row.estimates.get(metric.name), metric) for metric in metrics]
            kind = " class=whole" if row.split == WHOLE else ""
            lines.append(f"<tr{kind}><td>{escape(title(row))}<td>{row.samples}" + "".join(map(_cell, cells)))
    return "\n".join([*lines, "</table></div>"])


def _cell(text: str) -> str:
    value, _, bounds = text.partition(" ")
    return f"<td>{escape(value)}" + (f" <small>{escape(bounds)}</small>" if bounds else "")


def _data_uri(image: Image) -> str:
    from PIL import Image as Pictures

    buffer = BytesIO()
    Pictures.fromarray(image).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
