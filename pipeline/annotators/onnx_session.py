"""Opens ONNX networks under onnxruntime, the same way for every annotator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handface.extras import extra

if TYPE_CHECKING:
    import onnxruntime

# exported files carry unused initializers, a warning each
_ERRORS_ONLY = 3
_TYPES: dict[str, type[np.floating]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


class OnnxError(ValueError):
    """A network cannot be used; the message names the file."""


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A network on the CPU.

    Args:
        path: the .onnx file; weights kept in files beside it are found.
        threads: of one call. Workers run many networks side by side, so one is the rule.

    Raises:
        OnnxError: the file is missing or is no network.
    """
    with extra("onnxruntime", f"{path.name}: an ONNX network"):
        import onnxruntime

    if not path.is_file():
        raise OnnxError(f"{path}: there is no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # onnxruntime's errors share no base class
    except Exception as error:
        raise OnnxError(f"{path} is no readable ONNX network: {error}") from error


def float_type(session: onnxruntime.InferenceSession, path: Path) -> type[np.floating]:
    """The numpy type of a network's first input. Raises OnnxError, naming `path`, if it takes no floating point numbers."""
    first = session.get_inputs()[0]
    if first.type not in _TYPES:
        raise OnnxError(f"{path}: input {first.name!r} takes {first.type}, expected floating point numbers")
    return _TYPES[first.type]
