"""OpenVINO without its telemetry: importing it sends an event to an analytics service from a forked process."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any


def import_openvino() -> Any:
    """The `openvino` module; its own stub takes the place of `openvino_telemetry`. Raises ImportError if it is not installed."""
    # None makes every later import of the package fail, which OpenVINO answers with its stub
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process, never given back.

    With the last core OpenVINO unloads its CPU plugin but leaves what that had registered for forks; the next fork, such as a
    DataLoader's, then ends the process (openvino 2026.4.1).
    """
    return import_openvino().Core()
