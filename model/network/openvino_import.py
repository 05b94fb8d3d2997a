"""OpenVINO without its telemetry: importing it sends an event to an analytics service from a forked process."""

from __future__ import annotations

import sys
from typing import Any


def import_openvino() -> Any:
    """The `openvino` module; its own stub takes the place of `openvino_telemetry`. Raises ImportError if it is not installed."""
    # None makes every later import of the package fail, which OpenVINO answers with its stub
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
