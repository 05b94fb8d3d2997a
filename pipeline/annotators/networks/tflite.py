"""Reads a .tflite file: its operators and constant tensors as plain Python and numpy values."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Names of the operators that MediaPipe's networks use, by their number in the format.
OPERATORS = {
    **{0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 5: "DEPTH_TO_SPACE"},
    **{6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU"},
    **{22: "RESHAPE", 23: "RESIZE_BILINEAR", 25: "SOFTMAX", 32: "CUSTOM", 34: "PAD", 39: "TRANSPOSE", 40: "MEAN"},
    **{45: "STRIDED_SLICE", 54: "PRELU", 67: "TRANSPOSE_CONV", 74: "SUM", 97: "RESIZE_NEAREST_NEIGHBOR"},
    **{124: "DENSIFY"},
}
# Options of the operators: name -> (field number, struct code of its type, default).
_CONV = {"padding": (0, "b", 0), "stride_w": (1, "i", 1), "stride_h": (2, "i", 1)}
OPTIONS: dict[str, dict[str, tuple[int, str, int]]] = {
    "CONV_2D": {**_CONV, "activation": (3, "b", 0), "dilation_w": (4, "i", 1), "dilation_h": (5, "i", 1)},
    "DEPTHWISE_CONV_2D": {**_CONV, "activation": (4, "b", 0), "dilation_w": (5, "i", 1), "dilation_h": (6, "i", 1)},
    "TRANSPOSE_CONV": {**_CONV, "activation": (3, "b", 0)},
    "MAX_POOL_2D": {**_CONV, "width": (3, "i", 1), "height": (4, "i", 1)},
    "AVERAGE_POOL_2D": {**_CONV, "width": (3, "i", 1), "height": (4, "i", 1)},
    "ADD": {"activation": (0, "b", 0)},
    "MUL": {"activation": (0, "b", 0)},
    "CONCATENATION": {"axis": (0, "i", 0)},
    "FULLY_CONNECTED": {"activation": (0, "b", 0)},
    "RESIZE_BILINEAR": {"align_corners": (2, "b", 0), "half_pixel": (3, "b", 0)},
    "RESIZE_NEAREST_NEIGHBOR": {"align_corners": (0, "b", 0), "half_pixel": (1, "b", 0)},
    "DEPTH_TO_SPACE": {"block": (0, "i", 1)},
    "MEAN": {"keep_dims": (0, "b", 0)},
    "SUM": {"keep_dims": (0, "b", 0)},
}
_TYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 9: np.int8}


class TfliteError(ValueError):
    """The bytes are no tflite network, or one with an operator that is not known here; the message says which."""


@dataclass(frozen=True)
class Tensor:
    """One tensor: its shape for a batch of one, and its values where they are constant."""

    name: str
    shape: tuple[int, ...]
    values: NDArray[Any] | None = None


@dataclass(frozen=True)
class Operator:
    """One step. inputs and outputs are numbers of tensors, -1 for an input that is left out."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A network: operators in order, and the numbers of its input and output tensors."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def without_values(self) -> Graph:
        """The same graph without its constants, which take nearly all of its memory."""
        return replace(self, tensors=tuple(Tensor(tensor.name, tensor.shape) for tensor in self.tensors))


def read_tflite(content: bytes) -> Graph:
    """Parse a .tflite file. float16 and sparse constants come out dense, as float32.

    Raises TfliteError if the bytes are not such a file.
    """
    if content[4:8] != b"TFL3":
        raise TfliteError("these bytes are no tflite file")
    try:
        return _read_model(content)
    except TfliteError:
        raise
    except (struct.error, LookupError, ValueError, OverflowError) as error:
        raise TfliteError(f"the tflite file is damaged ({error})") from error


@dataclass(frozen=True)
class _Table:
    """A flatbuffer table: fields found through its vtable."""

    data: bytes
    start: int

    def _place(self, number: int) -> int | None:
        vtable = self.start - struct.unpack_from("<i", self.data, self.start)[0]
        slot = 4 + 2 * number
        if slot >= struct.unpack_from("<H", self.data, vtable)[0]:
            return None
        offset = struct.unpack_from("<H", self.data, vtable + slot)[0]
        return self.start + offset if offset else None

    def scalar(self, number: int, code: str, default: int = 0) -> int:
        """A number with struct code `code`."""
        place = self._place(number)
        return default if place is None else int(struct.unpack_from("<" + code, self.data, place)[0])

    def table(self, number: int) -> _Table | None:
        """A table that the field points to."""
        place = self._place(number)
        return None if place is None else _Table(self.data, _follow(self.data, place))

    def vector(self, number: int, dtype: Any) -> NDArray[Any]:
        """A vector of numbers (a view of the file), empty if absent."""
        place = self._place(number)
        if place is None:
            return np.zeros(0, dtype)
        start = _follow(self.data, place)
        count = struct.unpack_from("<I", self.data, start)[0]
        if start + 4 + count * np.dtype(dtype).itemsize > len(self.data):
            raise IndexError("a vector reaches past the end")
        return np.frombuffer(self.data, dtype, count, start + 4)

    def tables(self, number: int) -> list[_Table]:
        """A vector of tables."""
        place = self._place(number)
        if place is None:
            return []
        start = _follow(self.data, place)
        count = struct.unpack_from("<I", self.data, start)[0]
        return [_Table(self.data, _follow(self.data, start + 4 + 4 * i)) for i in range(count)]

    def text(self, number: int) -> str:
        """A string, empty if absent."""
        return bytes(self.vector(number, np.uint8)).decode()


def _follow(data: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", data, place)[0])


def _read_model(content: bytes) -> Graph:
    model = _Table(content, _follow(content, 0))
    buffers, codes = model.tables(4), model.tables(1)
    graph = model.tables(2)[0]
    tensors = [_read_tensor(table, buffers) for table in graph.tables(0)]
    operators = []
    for table in graph.tables(3):
        operator = _read_operator(table, codes[table.scalar(0, "I")])
        values = tensors[operator.inputs[0]].values if operator.kind in ("DEQUANTIZE", "DENSIFY") else None
        if values is not None:
            target = tensors[operator.outputs[0]]
            dense = values.astype(np.float32) if operator.kind == "DEQUANTIZE" else values
            tensors[operator.outputs[0]] = Tensor(target.name, target.shape, dense)
        else:
            operators.append(operator)
    inputs, outputs = (tuple(graph.vector(number, np.int32).tolist()) for number in (1, 2))
    return Graph(tuple(tensors), tuple(operators), inputs, outputs)


def _read_tensor(table: _Table, buffers: list[_Table]) -> Tensor:
    shape = tuple(table.vector(0, np.int32).tolist())
    data = buffers[table.scalar(2, "I")].vector(0, np.uint8)
    kind = table.scalar(1, "b")
    if not len(data):
        return Tensor(table.text(3), shape)
    if kind not in _TYPES:
        raise TfliteError(f"tensor {table.text(3)!r} has type {kind}, which is not known here")
    values = data.view(_TYPES[kind])
    sparsity = table.table(6)
    dense = values.reshape(shape) if sparsity is None else _densify(values, shape, sparsity)
    return Tensor(table.text(3), shape, dense)


def _read_operator(table: _Table, code: _Table) -> Operator:
    number = max(code.scalar(0, "b"), code.scalar(3, "i"))
    kind = OPERATORS.get(number, f"operator {number}")
    inputs, outputs = (tuple(table.vector(n, np.int32).tolist()) for n in (1, 2))
    if kind == "CUSTOM":
        from flatbuffers import flexbuffers

        raw = bytearray(table.vector(5, np.uint8))
        return Operator(code.text(1), inputs, outputs, flexbuffers.Loads(raw) if raw else {})
    options, known = table.table(4), OPTIONS.get(kind, {})
    values = {
        name: default if options is None else options.scalar(at, type_, default)
        for name, (at, type_, default) in known.items()
    }
    return Operator(kind, inputs, outputs, values)


def _densify(values: NDArray[Any], shape: tuple[int, ...], sparsity: _Table) -> NDArray[Any]:
    """Expand a sparse tensor: levels in traversal order, each dense or compressed; blocks are levels of their own."""
    order, block_map = sparsity.vector(0, np.int32).tolist(), sparsity.vector(1, np.int32).tolist()
    levels = sparsity.tables(2)
    rank = len(shape)
    sizes = [level.scalar(1, "i") for level in levels]
    rows = np.zeros((1, 0), np.int64)  # one row of level indices for each branch so far
    for level, size in zip(levels, sizes, strict=True):
        if level.scalar(0, "b") == 0:
            index = np.tile(np.arange(size), len(rows))
            rows = np.column_stack([np.repeat(rows, size, axis=0), index])
        else:
            segments, indices = _sparse_vector(level, 2), _sparse_vector(level, 4)
            rows = np.column_stack([np.repeat(rows, np.diff(segments), axis=0), indices])
    block_sizes = {axis: sizes[order.index(rank + i)] for i, axis in enumerate(block_map)}
    full = [np.zeros(len(rows), np.int64) for _ in shape]
    for column, axis in zip(rows.T, order, strict=True):
        if axis < rank:
            full[axis] += column * block_sizes.get(axis, 1)
        else:
            full[block_map[axis - rank]] += column
    dense = np.zeros(shape, values.dtype)
    dense[tuple(full)] = values
    return dense


def _sparse_vector(level: _Table, number: int) -> NDArray[np.int64]:
    table = level.table(number + 1)
    dtype = {1: np.int32, 2: np.uint16, 3: np.uint8}[level.scalar(number, "b")]
    assert table is not None
    return table.vector(0, dtype).astype(np.int64)
