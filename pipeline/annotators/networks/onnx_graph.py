"""Rewrites a tflite graph as ONNX, with a free batch dimension, so that OpenVINO and ONNX Runtime can run it.

Tensors with four dimensions are kept channels first, all others as tflite has them. Reshapes keep the batch first, which
is what tflite runtimes get wrong: they fold the batch of `palm_detection_full` layer by layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.pipeline.annotators.networks.tflite import Graph, Operator, TfliteError

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET = 17
_TO_FIRST, _TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # channels last <-> channels first
_AXIS = (0, 2, 3, 1)  # axis of a channels-last tensor -> axis of the same tensor channels first


def to_onnx(graph: Graph, outputs: tuple[str, ...] | None = None) -> bytes:
    """Serialised ONNX model with inputs and outputs as in the tflite file, float32, first dimension free.

    outputs: names of the outputs to keep, all if None.  Raises TfliteError on an operator that is not known here.
    """
    return _Writer(graph).write(outputs)


class _Writer:
    """Nodes and constants while a graph is written; tensors are named t0, t1, ... by their tflite numbers."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def write(self, outputs: tuple[str, ...] | None) -> bytes:
        from onnx import TensorProto, checker, helper, numpy_helper

        tensors = self.graph.tensors
        (source,) = self.graph.inputs
        self.add("Transpose", ["input"], f"t{source}", perm=_TO_FIRST)
        for operator in self.graph.operators:
            convert = _CONVERTERS.get(operator.kind)
            if convert is None:
                raise TfliteError(f"operator {operator.kind} is not known here")
            convert(self, operator)
        results = []
        for number in self.graph.outputs:
            tensor = tensors[number]
            if outputs is not None and tensor.name not in outputs:
                continue
            self.add(
                "Transpose" if len(tensor.shape) == 4 else "Identity",
                [f"t{number}"],
                tensor.name,
                **({"perm": _TO_LAST} if len(tensor.shape) == 4 else {}),
            )
            results.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, ["batch", *tensor.shape[1:]]))
        image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *tensors[source].shape[1:]])
        constants = [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in self.constants.items()]
        body = helper.make_graph(self._needed(results), "network", [image], results, constants)
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        checker.check_model(model)
        return bytes(model.SerializeToString())

    def _needed(self, results: list[Any]) -> list[Any]:
        """The nodes that the results depend on, in order."""
        wanted = {result.name for result in results}
        needed = []
        for node in reversed(self.nodes):
            if wanted & set(node.output):
                wanted |= set(node.input)
                needed.append(node)
        self.constants = {name: value for name, value in self.constants.items() if name in wanted}
        return needed[::-1]

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        from onnx import helper

        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """A constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype)
        return name

    def values(self, number: int) -> NDArray[Any]:
        """The values of a constant tensor."""
        values = self.graph.tensors[number].values
        if values is None:
            raise TfliteError(f"tensor {self.graph.tensors[number].name!r} should be constant")
        return values

    def operand(self, number: int, rank: int) -> str:
        """An operand of an elementwise step between tensors of `rank` dimensions: constants are laid out like them."""
        values = self.graph.tensors[number].values
        if values is None:
            return f"t{number}"
        if rank == 4 and values.ndim:
            values = values.reshape((1,) * (4 - values.ndim) + values.shape).transpose(_TO_FIRST)
        return self.constant(values)

    def activate(self, name: str, activation: int, output: str) -> None:
        """The step's fused activation: none, ReLU or ReLU6."""
        if activation == 0:
            self.add("Identity", [name], output)
        elif activation == 1:
            self.add("Relu", [name], output)
        elif activation == 3:
            self.add("Clip", [name, self.constant(0), self.constant(6)], output)
        else:
            raise TfliteError(f"fused activation {activation} is not known here")

    def shape(self, number: int) -> tuple[int, ...]:
        """The tflite shape of a tensor."""
        return self.graph.tensors[number].shape


def _padding(writer: _Writer, operator: Operator, kernel: tuple[int, int], dilation: tuple[int, int]) -> list[int]:
    """ONNX pads of tflite's SAME (the odd pixel goes below and right) or VALID."""
    if operator.options["padding"] == 1:
        return [0, 0, 0, 0]
    strides = operator.options["stride_h"], operator.options["stride_w"]
    low, high = [], []
    for axis in (0, 1):
        size, reach = writer.shape(operator.inputs[0])[1 + axis], (kernel[axis] - 1) * dilation[axis] + 1
        total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size, 0)
        low.append(total // 2)
        high.append(total - total // 2)
    return [*low, *high]


def _convolution(writer: _Writer, operator: Operator) -> None:
    options, weights = operator.options, writer.values(operator.inputs[1])
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    kernel, dilation = weights.shape[1:3], (options["dilation_h"], options["dilation_w"])
    inputs = [f"t{operator.inputs[0]}", writer.constant(weights.transpose((3, 0, 1, 2) if depthwise else _TO_FIRST))]
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        inputs.append(writer.constant(writer.values(operator.inputs[2])))
    name = writer.add(
        "Conv",
        inputs,
        kernel_shape=kernel,
        strides=[options["stride_h"], options["stride_w"]],
        dilations=dilation,
        pads=_padding(writer, operator, kernel, dilation),
        group=writer.shape(operator.inputs[0])[3] if depthwise else 1,
    )
    writer.activate(name, options["activation"], f"t{operator.outputs[0]}")


def _transposed_convolution(writer: _Writer, operator: Operator) -> None:
    weights, options = writer.values(operator.inputs[1]), operator.options
    kernel, strides = weights.shape[1:3], (options["stride_h"], options["stride_w"])
    if kernel != strides:
        raise TfliteError(f"transposed convolution with kernel {kernel} and stride {strides} is not known here")
    inputs = [f"t{operator.inputs[2]}", writer.constant(weights.transpose(3, 0, 1, 2))]
    if len(operator.inputs) > 3 and operator.inputs[3] >= 0:
        inputs.append(writer.constant(writer.values(operator.inputs[3])))
    name = writer.add("ConvTranspose", inputs, kernel_shape=kernel, strides=strides)
    writer.activate(name, options["activation"], f"t{operator.outputs[0]}")


def _pool(writer: _Writer, operator: Operator) -> None:
    options = operator.options
    kernel = (options["height"], options["width"])
    kind = "MaxPool" if operator.kind == "MAX_POOL_2D" else "AveragePool"
    writer.add(
        kind,
        [f"t{operator.inputs[0]}"],
        f"t{operator.outputs[0]}",
        kernel_shape=kernel,
        strides=[options["stride_h"], options["stride_w"]],
        pads=_padding(writer, operator, kernel, (1, 1)),
    )


def _elementwise(writer: _Writer, operator: Operator) -> None:
    rank = len(writer.shape(operator.outputs[0]))
    operands = [writer.operand(number, rank) for number in operator.inputs]
    name = writer.add({"ADD": "Add", "MUL": "Mul"}[operator.kind], operands)
    writer.activate(name, operator.options["activation"], f"t{operator.outputs[0]}")


def _prelu(writer: _Writer, operator: Operator) -> None:
    slope = writer.values(operator.inputs[1])
    name = writer.constant(
        slope.reshape(1, 1, -1)[0].T[:, :, None] if slope.size == slope.shape[-1] else slope.transpose(2, 0, 1)
    )
    writer.add("PRelu", [f"t{operator.inputs[0]}", name], f"t{operator.outputs[0]}")


def _unary(kind: str, **attributes: Any) -> Any:
    def convert(writer: _Writer, operator: Operator) -> None:
        writer.add(kind, [f"t{operator.inputs[0]}"], f"t{operator.outputs[0]}", **attributes)

    return convert


def _pad(writer: _Writer, operator: Operator) -> None:
    pads = writer.values(operator.inputs[1])[list(_TO_FIRST)]
    writer.add(
        "Pad", [f"t{operator.inputs[0]}", writer.constant(pads.T.reshape(-1), np.int64)], f"t{operator.outputs[0]}"
    )


def _channels_last(writer: _Writer, number: int) -> str:
    name = f"t{number}"
    return writer.add("Transpose", [name], perm=_TO_LAST) if len(writer.shape(number)) == 4 else name


def _reshape(writer: _Writer, operator: Operator) -> None:
    target = writer.shape(operator.outputs[0])
    shape = writer.constant([-1, *target[1:]], np.int64)  # the first dimension takes the batch
    output, source = f"t{operator.outputs[0]}", _channels_last(writer, operator.inputs[0])
    if len(target) == 4:
        writer.add("Transpose", [writer.add("Reshape", [source, shape])], output, perm=_TO_FIRST)
    else:
        writer.add("Reshape", [source, shape], output)


def _transpose(writer: _Writer, operator: Operator) -> None:
    order = writer.values(operator.inputs[1]).tolist()
    if len(order) == 4:  # channels first -> last, then the order, then first again
        order = [_TO_LAST[order[axis]] for axis in _TO_FIRST]
    writer.add("Transpose", [f"t{operator.inputs[0]}"], f"t{operator.outputs[0]}", perm=order)


def _concatenate(writer: _Writer, operator: Operator) -> None:
    rank, axis = len(writer.shape(operator.outputs[0])), operator.options["axis"]
    axis = _AXIS[axis % rank] if rank == 4 else axis
    writer.add("Concat", [f"t{number}" for number in operator.inputs], f"t{operator.outputs[0]}", axis=axis)


def _softmax(writer: _Writer, operator: Operator) -> None:
    axis = 1 if len(writer.shape(operator.inputs[0])) == 4 else -1
    writer.add("Softmax", [f"t{operator.inputs[0]}"], f"t{operator.outputs[0]}", axis=axis)


def _reduce(writer: _Writer, operator: Operator) -> None:
    rank = len(writer.shape(operator.inputs[0]))
    axes = [int(axis) % rank for axis in np.atleast_1d(writer.values(operator.inputs[1]))]
    axes = [_AXIS[axis] for axis in axes] if rank == 4 else axes
    keep, output = operator.options["keep_dims"], f"t{operator.outputs[0]}"
    if operator.kind == "MEAN":
        writer.add("ReduceMean", [f"t{operator.inputs[0]}"], output, axes=axes, keepdims=keep)
    else:
        writer.add("ReduceSum", [f"t{operator.inputs[0]}", writer.constant(axes, np.int64)], output, keepdims=keep)


def _fully_connected(writer: _Writer, operator: Operator) -> None:
    weights = writer.constant(writer.values(operator.inputs[1]).T)
    name = writer.add("MatMul", [f"t{operator.inputs[0]}", weights])
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        name = writer.add("Add", [name, writer.constant(writer.values(operator.inputs[2]))])
    writer.activate(name, operator.options["activation"], f"t{operator.outputs[0]}")


def _resize(writer: _Writer, operator: Operator) -> None:
    options = operator.options
    if options["align_corners"]:
        raise TfliteError("resizing with aligned corners is not known here")
    (_, height, width, _), (_, old_height, old_width, _) = (
        writer.shape(number) for number in (operator.outputs[0], operator.inputs[0])
    )
    scales = writer.constant([1, 1, height / old_height, width / old_width])
    linear = operator.kind == "RESIZE_BILINEAR"
    writer.add(
        "Resize",
        [f"t{operator.inputs[0]}", "", scales],
        f"t{operator.outputs[0]}",
        mode="linear" if linear else "nearest",
        coordinate_transformation_mode="half_pixel" if options["half_pixel"] else "asymmetric",
        **({} if linear else {"nearest_mode": "round_prefer_ceil" if options["half_pixel"] else "floor"}),
    )


def _depth_to_space(writer: _Writer, operator: Operator) -> None:
    writer.add(
        "DepthToSpace",
        [f"t{operator.inputs[0]}"],
        f"t{operator.outputs[0]}",
        blocksize=operator.options["block"],
        mode="DCR",
    )


def _slice(writer: _Writer, operator: Operator) -> None:
    """Strided slices that take everything but perhaps the end of the channels; masks are not used by these networks."""
    begin, end, strides = (writer.values(number) for number in operator.inputs[1:4])
    shape = writer.shape(operator.inputs[0])
    if len(shape) != 4 or (strides != 1).any() or begin[:3].any():
        raise TfliteError("a strided slice of this kind is not known here")
    bounds = [writer.constant([int(value)], np.int64) for value in (begin[3], min(end[3], shape[3]))]
    axis = writer.constant([1], np.int64)
    writer.add("Slice", [f"t{operator.inputs[0]}", *bounds, axis], f"t{operator.outputs[0]}")


def _landmarks_to_matrix(writer: _Writer, operator: Operator) -> None:
    """(N, P, 3) points -> (N, 4, 4): pixels of a crop around some of the points, turned with the eyes' or lips' corners.

    MediaPipe's operator, of which only the first two rows matter: crop pixel -> position in the feature map.
    """
    options = operator.options
    if options["target_rotation_radians"] != 0:
        raise TfliteError("Landmarks2TransformMatrix with a target rotation is not known here")

    def take(indices: list[int], axis: int, source: str) -> str:
        return writer.add("Gather", [source, writer.constant(indices, np.int64)], axis=axis)

    points = f"t{operator.inputs[0]}"
    left, right = (take([options[f"{side}_rotation_idx"]], 1, points) for side in ("left", "right"))
    along = take([0, 1], 2, writer.add("Sub", [right, left]))  # (N, 1, 2)
    length = writer.add("ReduceL2", [along], axes=[2], keepdims=1)
    along = writer.add("Div", [along, length])  # cosine, sine
    cos, sin = take([0], 2, along), take([1], 2, along)
    minus_sin = writer.add("Neg", [sin])
    # rows: the axes of the crop in the map; (N, 2, 2)
    axes = writer.add("Concat", [along, writer.add("Concat", [minus_sin, cos], axis=2)], axis=1)
    subset = take([0, 1], 2, take(list(options["subset_idxs"]), 1, points))  # (N, S, 2)
    turned = writer.add("MatMul", [subset, writer.add("Transpose", [axes], perm=[0, 2, 1])])
    high = writer.add("ReduceMax", [turned], axes=[1], keepdims=1)
    low = writer.add("ReduceMin", [turned], axes=[1], keepdims=1)
    size, middle = (
        writer.add("Sub", [high, low]),
        writer.add("Mul", [writer.add("Add", [high, low]), writer.constant(0.5)]),
    )
    centre = writer.add("MatMul", [middle, axes])  # (N, 1, 2), back in the map
    pixels = np.array([options["output_width"], options["output_height"]], np.float32)
    growth = np.array([options["scale_x"], options["scale_y"]], np.float32)
    step = writer.add("Mul", [size, writer.constant(growth / pixels)])  # (N, 1, 2): map units per crop pixel
    linear = writer.add("Mul", [writer.add("Transpose", [axes], perm=[0, 2, 1]), step])  # columns scaled
    # shift: centre - linear @ (pixels / 2)
    half = writer.add("MatMul", [linear, writer.constant((pixels / 2)[:, None])])  # (N, 2, 1)
    shift = writer.add("Sub", [writer.add("Transpose", [centre], perm=[0, 2, 1]), half])
    zero = writer.add("Mul", [shift, writer.constant(0)])
    top = writer.add("Concat", [linear, zero, shift], axis=2)  # (N, 2, 4)
    writer.add("Concat", [top, writer.add("Mul", [top, writer.constant(0)])], f"t{operator.outputs[0]}", axis=1)


def _sample_features(writer: _Writer, operator: Operator) -> None:
    """Bilinear crop of a feature map: (N, C, H, W) and (N, 4, 4) -> (N, C, h, w); 0 outside the pixels' centres."""
    features, matrix = (f"t{number}" for number in operator.inputs)
    height, width = operator.options["output_height"], operator.options["output_width"]
    _, map_height, map_width, _ = writer.shape(operator.inputs[0])
    y, x = np.mgrid[:height, :width].reshape(2, -1) + 0.5
    grid = np.stack([x, y, np.zeros_like(x), np.ones_like(x)])  # (4, h * w)
    rows = writer.add("Slice", [matrix, *(writer.constant([v], np.int64) for v in (0, 2, 1))])
    places = writer.add("Sub", [writer.add("MatMul", [rows, writer.constant(grid)]), writer.constant(0.5)])
    last = np.array([[map_width - 1], [map_height - 1]], np.float32)
    relative = writer.add(
        "Sub", [writer.add("Mul", [places, writer.constant(2 / last)]), writer.constant(1)]
    )  # -1 .. 1
    shaped = writer.add(
        "Reshape",
        [writer.add("Transpose", [relative], perm=[0, 2, 1]), writer.constant([-1, height, width, 2], np.int64)],
    )
    sampled = writer.add("GridSample", [features, shaped], mode="bilinear", padding_mode="zeros", align_corners=1)
    distance = writer.add("ReduceMax", [writer.add("Abs", [shaped])], axes=[3], keepdims=1)
    inside = writer.add("Cast", [writer.add("LessOrEqual", [distance, writer.constant(1)])], to=1)
    mask = writer.add("Transpose", [inside], perm=_TO_FIRST)
    writer.add("Mul", [sampled, mask], f"t{operator.outputs[0]}")


def _transform_landmarks(writer: _Writer, operator: Operator) -> None:
    """(N, P, 2) points of a crop -> points of the whole, by the first two rows of (N, 4, 4)."""
    points, matrix = (f"t{number}" for number in operator.inputs)
    rows = writer.add("Slice", [matrix, *(writer.constant([v], np.int64) for v in (0, 2, 1))])  # (N, 2, 4)
    turned = writer.add("Transpose", [rows], perm=[0, 2, 1])
    linear = writer.add("Slice", [turned, *(writer.constant([v], np.int64) for v in (0, 2, 1))])
    shift = writer.add("Slice", [turned, *(writer.constant([v], np.int64) for v in (3, 4, 1))])
    writer.add("Add", [writer.add("MatMul", [points, linear]), shift], f"t{operator.outputs[0]}")


_CONVERTERS = {
    "CONV_2D": _convolution, "DEPTHWISE_CONV_2D": _convolution, "TRANSPOSE_CONV": _transposed_convolution,
    "MAX_POOL_2D": _pool, "AVERAGE_POOL_2D": _pool, "ADD": _elementwise, "MUL": _elementwise, "PRELU": _prelu,
    "RELU": _unary("Relu"), "LOGISTIC": _unary("Sigmoid"), "PAD": _pad, "RESHAPE": _reshape,
    "TRANSPOSE": _transpose, "CONCATENATION": _concatenate, "SOFTMAX": _softmax, "MEAN": _reduce, "SUM": _reduce,
    "FULLY_CONNECTED": _fully_connected, "RESIZE_BILINEAR": _resize, "RESIZE_NEAREST_NEIGHBOR": _resize,
    "DEPTH_TO_SPACE": _depth_to_space, "STRIDED_SLICE": _slice, "Landmarks2TransformMatrix": _landmarks_to_matrix,
    "TransformTensorBilinear": _sample_features, "TransformLandmarks": _transform_landmarks,
}  # fmt: skip
