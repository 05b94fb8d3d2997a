"""The demo's one page: what was annotated, how the losses went, how good the network is, and what it sees in the pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#dddcd6, #33373d); --soft: light-dark(#686c73, #9a9da3); --accent: light-dark(#2f6f5e, #7cc4ae) }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 90em; padding: 1em 2em 4em }
h2 { margin: 2em 0 .3em } p { max-width: 65em } small, figcaption { color: var(--soft) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } td { padding: .2em 1em .2em 0; border-bottom: 1px solid var(--line) }
td:last-child { text-align: right } iframe { width: 100%; height: 44em; border: 1px solid var(--line); border-radius: 8px; background: #fff }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 1em }
figure { margin: 0 } img { width: 100%; border-radius: 6px } svg { width: 100%; max-width: 60em; height: 14em }
polyline { fill: none; stroke: var(--accent); stroke-width: 2; vector-effect: non-scaling-stroke }
"""
_PICTURE_SIDE = 520  # pixels of the longer side


@dataclass(frozen=True)
class DemoPage:
    """What the page shows. seconds: (step, seconds) in order.  report, evaluation: whole HTML pages.  log: a run's log.jsonl."""

    seconds: Sequence[tuple[str, float]]
    report: Path
    log: Path
    evaluation: Path
    overlays: Sequence[Path]
    network: str


def render_demo_page(page: DemoPage) -> str:
    """One HTML file that needs nothing beside it."""
    steps = "".join(f"<tr><td>{escape(name)}<td>{seconds:.1f} s" for name, seconds in page.seconds)
    total = sum(seconds for _, seconds in page.seconds)
    figures = "".join(
        f'<figure><img alt="" src="{_thumbnail(path)}"><figcaption>{escape(path.stem)}</figcaption></figure>'
        for path in page.overlays
    )
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
            f"<title>handface demo</title><style>{_STYLE}</style><h1>handface: from pictures to meshes</h1>",
            f"<table>{steps}<tr><td><b>in all</b><td><b>{total:.1f} s</b></table>",
            "<h2>Pictures to labelled shards</h2>",
            "<p>Photos from installed packages, synthetic scenes and files that are bad on purpose, annotated and filtered.</p>",
            _frame(page.report),
            "<h2>Shards to weights</h2>",
            f"<p>{escape(page.network)} Two processes share every step. The sum of all losses by step:</p>",
            loss_curve(page.log),
            "<h2>How good it is</h2><p>On scenes that were not trained on, beside the mean pose of the training scenes and the"
            " labels themselves.</p>",
            _frame(page.evaluation),
            "<h2>What it sees</h2><p>Hand and head meshes over the pictures; the people were found by the detectors.</p>",
            f"<div class=pictures>{figures}</div>",
            "",
        ]
    )


def loss_curve(log: Path) -> str:
    """An SVG of the logged losses, with the first and the last in words."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    if not losses:
        return "<p>No step was logged.</p>"
    high, low = max(loss for _, loss in losses), min(loss for _, loss in losses)
    first, last = losses[0][0], losses[-1][0]
    points = " ".join(
        f"{100 * (step - first) / max(1, last - first):.2f},{96 - 92 * (loss - low) / max(1e-9, high - low):.2f}"
        for step, loss in losses
    )
    words = f"step {first}: {losses[0][1]:.0f}; step {last}: {losses[-1][1]:.0f}"
    return (
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role=img aria-label="{words}"><polyline points="{points}"/></svg>'
        f"<p><small>{words}</small></p>"
    )


def _frame(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return f'<iframe sandbox="allow-scripts" loading=lazy srcdoc="{escape(text, quote=True)}"></iframe>'


def _thumbnail(path: Path) -> str:
    from PIL import Image

    buffer = BytesIO()
    with Image.open(path) as image:
        image.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
        image.convert("RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
