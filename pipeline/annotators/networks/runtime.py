"""Runs a network from its .tflite bytes: OpenVINO or LiteRT on a CPU, ONNX Runtime on a CPU or a GPU, behind one call."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from handface.model.network.openvino_import import import_openvino, openvino_core
from handface.pipeline.annotators.networks.compiled import compile_once
from handface.pipeline.annotators.networks.onnx_graph import to_onnx
from handface.pipeline.annotators.networks.tflite import Graph, TfliteError, read_tflite
from handface.pipeline.contract.config import Count

if TYPE_CHECKING:
    from numpy.typing import NDArray

Outputs = dict[str, "NDArray[np.float32]"]


class NetworkError(RuntimeError):
    """A network cannot be loaded or gave an unusable answer; the message names it and says what to do."""


@dataclass(frozen=True)
class RuntimeConfig:
    """What runs the networks. Runtimes agree to about 1e-5 of an output's range, not to the bit."""

    name: Literal["openvino", "litert", "onnxruntime"] = "openvino"
    """litert lacks operators of the face mesh, which onnxruntime runs then."""
    device: str = "cpu"
    """cpu; or cuda, cuda:1, ... with onnxruntime (package onnxruntime-gpu)."""
    precision: Literal["f32", "bf16"] = "f32"
    """bf16 (openvino) takes 0.6 of the time and moves boxes and points a little: other samples. Refused where the CPU lacks it."""
    batch_size: Count = 16
    """Crops per call on a GPU. On a CPU crops go one by one: no slower there, and equal whatever the batch."""


class Runner(Protocol):
    """One compiled network."""

    def __call__(self, pixels: NDArray[np.float32]) -> Outputs:
        """(N, H, W, 3) float32 -> every output by name, each (N, ...) float32."""


class Network:
    """A network from the model store, ready to run.

    Args:
        path: the .tflite file.
        config: what runs it.
        outputs: names of the outputs that are wanted, all if empty.
    """

    def __init__(self, path: Path, config: RuntimeConfig = RuntimeConfig(), outputs: tuple[str, ...] = ()) -> None:
        self.path, self.config = path, config
        try:
            content = path.read_bytes()
            graph = read_tflite(content)
            names = [graph.tensors[number].name for number in graph.outputs]
            self.outputs = outputs or tuple(names)
            if absent := set(self.outputs) - set(names):
                raise TfliteError(f"it has no output {sorted(absent)[0]!r}")
            self._run = _OPENERS[config.name](content, graph, self.outputs, config)
        except (OSError, TfliteError) as error:
            raise NetworkError(f"{path} cannot be used as a network: {error}") from error
        self.graph = graph.without_values()  # the runtime has its own copy
        shape = graph.tensors[graph.inputs[0]].shape
        self.input_size = (shape[2], shape[1])  # width, height

    def __call__(self, pixels: NDArray[np.float32]) -> Outputs:
        """Run a batch.

        Args:
            pixels: (N, H, W, 3) float32 in the range the network was trained with. N may be 0.

        Returns:
            Each output by name, (N, ...) float32.

        Raises:
            NetworkError: an output is not finite.
        """
        step = self.config.batch_size if self.config.device != "cpu" else 1
        parts = [self._run(pixels[i : i + step]) for i in range(0, len(pixels), step)]
        if not parts:
            shapes = {self.graph.tensors[n].name: self.graph.tensors[n].shape[1:] for n in self.graph.outputs}
            return {name: np.zeros((0, *shapes[name]), np.float32) for name in self.outputs}
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise NetworkError(f"{self.path.name}: output {name} is not finite (runtime {self.config.name})")
        return outputs


def check_runtime(config: RuntimeConfig) -> None:
    """Raise NetworkError if the runtime is not installed or cannot use the device, before any work is done."""
    module = "ai_edge_litert" if config.name == "litert" else config.name
    if find_spec(module) is None:
        raise NetworkError(
            f"runtime {config.name} is not installed: `pip install 'handface[{config.name}]'`, or choose another runtime"
        )
    if config.precision == "bf16":
        _check_bf16(config)
    if config.device == "cpu":
        return
    if config.name != "onnxruntime":
        raise NetworkError(f"runtime {config.name} runs on the CPU alone; for {config.device} choose onnxruntime")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise NetworkError(
            f"this onnxruntime has no CUDA for {config.device}: `pip install onnxruntime-gpu` in its place"
        )


def _check_bf16(config: RuntimeConfig) -> None:
    # OpenVINO would take f32 without a word, so that machines of one cluster wrote different samples.
    if config.name != "openvino":
        raise NetworkError(f"runtime {config.name} has no precision bf16: choose f32 or runtime openvino")
    import_openvino()
    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NetworkError("this CPU has no bf16: choose precision f32, on every machine of a run")


def _open_openvino(content: bytes, graph: Graph, outputs: tuple[str, ...], config: RuntimeConfig) -> Runner:
    openvino = import_openvino()

    check_runtime(config)

    def build() -> Any:
        model = openvino_core().read_model(to_onnx(graph, outputs))
        model.reshape({0: [1, *graph.tensors[graph.inputs[0]].shape[1:]]})
        return model

    hints = {
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16}[config.precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = compile_once(repr(outputs).encode() + content, hints, build).create_infer_request()

    def run(pixels: NDArray[np.float32]) -> Outputs:
        request.infer({0: pixels}, share_inputs=True)
        return {name: request.get_tensor(name).data.copy() for name in outputs}

    return run


def _open_onnxruntime(content: bytes, graph: Graph, outputs: tuple[str, ...], config: RuntimeConfig) -> Runner:
    import onnxruntime

    check_runtime(config)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    kind, _, number = config.device.partition(":")
    providers: list[Any] = ["CPUExecutionProvider"]
    if kind == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    session = onnxruntime.InferenceSession(to_onnx(graph, outputs), options, providers=providers)

    def run(pixels: NDArray[np.float32]) -> Outputs:
        return dict(zip(outputs, session.run(list(outputs), {"input": pixels}), strict=True))

    return run


def _open_litert(content: bytes, graph: Graph, outputs: tuple[str, ...], config: RuntimeConfig) -> Runner:
    check_runtime(config)
    if custom := {operator.kind for operator in graph.operators} & {"Landmarks2TransformMatrix"}:
        raise TfliteError(f"runtime litert has no operator {min(custom)}; choose openvino or onnxruntime")
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    places = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}

    def run(pixels: NDArray[np.float32]) -> Outputs:
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        return {name: interpreter.get_tensor(places[name]) for name in outputs}

    return run


_OPENERS = {"openvino": _open_openvino, "onnxruntime": _open_onnxruntime, "litert": _open_litert}
