"""Puts a Report into one HTML file that needs no network: template, style and script inlined, data as inert JSON.

The page's own policy allows this script and this style by their hashes and nothing else, and the script shows data as
text only, so that no address or author name can become markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import Any

from handface.pipeline.report.collect import Report


def render(report: Report) -> str:
    """The whole page. Equal reports give equal pages."""
    package = files("handface.pipeline.report")
    template, style, script = (
        (package / name).read_text(encoding="utf-8") for name in ("template.html", "style.css", "app.js")
    )
    values = {
        "STYLE": style,
        "STYLE_HASH": _hash(style),
        "SCRIPT": script,
        "SCRIPT_HASH": _hash(script),
        "DATA": _inert_json(_data(report)),
    }
    return re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], template)


def _data(report: Report) -> dict[str, Any]:
    rows = report.funnel.rows()
    keys = ",".join(sample["key"] for sample in report.samples)
    names = dict.fromkeys(
        name for sample in report.samples for name, value in sample["scores"].items() if value is not None
    )
    return {
        "id": hashlib.sha256(keys.encode()).hexdigest()[:16],
        "totals": {
            "inputs": report.funnel.inputs if report.funnel.parts else None,
            "kept": report.kept,
            "parts": report.funnel.parts or None,
            "shown": len(report.samples),
        },
        "funnel": [
            {"stage": row.stage, "entered": row.entered, "rejected": row.entered - row.passed, "left": row.passed}
            for row in rows
        ],
        "reasons": report.reasons,
        "scoreNames": list(names),
        "samples": report.samples,
        "annotators": report.annotators,
    }


def _inert_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
