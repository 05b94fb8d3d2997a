"""Export to ONNX, check the file against the network, and run it with onnxruntime or OpenVINO."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handface.extras import extra
from handface.model.bodies.names import KEYPOINTS
from handface.model.network.deploy.fold import fold
from handface.model.network.dice import Dice
from handface.model.network.openvino_import import import_openvino, openvino_core
from handface.model.network.output import DiceOutput

OPSET = 17
INPUTS = ("images", "points")  # the second only of networks that look at points
Arrays = dict[str, NDArray[np.float32]]
Session = Callable[..., Arrays]
"""images (B, 3, S, S), and points (B, 89, 3) where the network looks at them -> outputs by name."""


class OnnxExportError(RuntimeError):
    """An exported network does not do what the original does, or a runtime is missing."""


class _Flat(nn.Module):
    """images, perhaps points -> tuple of tensors, in the order of `DiceOutput.flatten`."""

    def __init__(self, network: Dice) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, points: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        return tuple(self.network(images, points=points).flatten().values())


def example(model: Dice, batch: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Images of noise, (batch, 3, S, S) in 0..1, and points, (batch, 89, 3), if the network looks at them, for tracing and checking."""
    size, generator = model.config.input.size, torch.Generator().manual_seed(seed)
    images = torch.rand(batch, 3, size, size, generator=generator)
    if model.config.points is None:
        return (images,)
    points = torch.rand(batch, KEYPOINTS, 3, generator=generator) * torch.tensor([size, size, 1.0])
    points[-1, : KEYPOINTS // 2, 2] = 0  # some that nobody found
    return images, points


def export_onnx(model: Dice, path: Path, tolerance: float = 1e-4) -> dict[str, float]:
    """Write the folded network as ONNX and check it with onnxruntime.

    Inputs: images, (B, 3, S, S) RGB 0..1, any B; and of networks that look at them points, (B, 89, 3), zeros where there are none.

    Returns the relative error of every output (largest difference over largest magnitude). Raises OnnxExportError above
    `tolerance`; there is then no new file.
    """
    network = fold(model).cpu()
    inputs = example(network, 2)
    with torch.inference_mode():
        names = list(network(inputs[0]).flatten())
    axes = {name: {0: "batch"} for name in (*INPUTS[: len(inputs)], *names)}
    path.parent.mkdir(parents=True, exist_ok=True)
    unchecked = path.with_name(f"{path.name}.partial")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer remarks on shape checks that hold for every batch
            torch.onnx.export(
                _Flat(network).eval(),
                inputs,
                str(unchecked),
                input_names=list(INPUTS[: len(inputs)]),
                output_names=names,
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,  # the other exporter needs one more package and writes no single file
            )
        errors = compare(network, onnx_session(unchecked), *example(network, 3, seed=1))
        worst = worst_of(errors)
        if not errors[worst] <= tolerance:
            raise OnnxExportError(
                f"{path.name}: output {worst} is off by {errors[worst]:.2e}, more than {tolerance:.0e}; not written"
            )
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return errors


def worst_of(errors: Mapping[str, float]) -> str:
    """Name of the output that is most off; one that is no number is more off than any."""
    return max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))


def compare(
    network: Dice, session: Session, images: torch.Tensor, points: torch.Tensor | None = None
) -> dict[str, float]:
    """Relative error of every output of a session: max |difference| / max |expected|."""
    with torch.inference_mode():
        expected = network(images, points=points).flatten()
    found = session(images.numpy()) if points is None else session(images.numpy(), points.numpy())
    errors = {}
    for name, value in expected.items():
        scale = max(value.abs().max().item(), 1e-6)
        errors[name] = (torch.from_numpy(found[name]) - value).abs().max().item() / scale
    return errors


def onnx_session(path: Path, threads: int = 0) -> Session:
    """Run an exported file with onnxruntime on the CPU. threads: 0 lets it choose."""
    with extra("onnxruntime", f"{path}: running it in ONNX Runtime"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    fed = [each.name for each in session.get_inputs()]

    def run(*inputs: NDArray[np.float32]) -> Arrays:
        return dict(zip(names, session.run(names, dict(zip(fed, inputs, strict=True))), strict=True))

    return run


def onnx_outputs(path: Path) -> list[str]:
    """Names of a file's outputs, in order."""
    with extra("onnxruntime", f"{path}: reading its outputs"):
        import onnxruntime

    return [
        output.name
        for output in onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_outputs()
    ]


def openvino_session(path: Path, precision: Literal["fp32", "bf16"] = "bf16", threads: int = 0) -> Session:
    """Run an exported file with OpenVINO on the CPU. Raises OnnxExportError if the `openvino` extra is not installed."""
    try:
        import_openvino()
    except ImportError:
        raise OnnxExportError("OpenVINO is not installed: pip install 'handface[openvino]'") from None
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16"}
    settings["PERFORMANCE_HINT"] = "LATENCY"
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = openvino_core()
    compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    # by position: where an output is also used inside the network, OpenVINO may call it by its inner name
    names = onnx_outputs(path)

    def run(*inputs: NDArray[np.float32]) -> Arrays:
        found = compiled(inputs)
        return {name: np.array(found[index], np.float32) for index, name in enumerate(names)}

    return run


def as_output(arrays: Arrays) -> DiceOutput:
    """What a session returned, as a DiceOutput."""
    return DiceOutput.unflatten({name: torch.from_numpy(value) for name, value in arrays.items()})
