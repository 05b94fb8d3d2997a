"""Unpickles the numbers in MANO and FLAME files and nothing else: no class or function named by the file is ever run.

Names are looked up in a closed table. Arrays are rebuilt by numpy; chumpy objects, sparse matrices and torch tensors become inert
records of their state, from which `plain` computes the array. chumpy and torch need not be there.
"""

from __future__ import annotations

import collections
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from handface.model.bodies.arrays import BodyFileError


class _Sealed(type):
    """A metaclass that lets no BUILD instruction change the class."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"the file tries to change {cls.__name__}.{name}")


class InertRecord(metaclass=_Sealed):
    """State of an object whose class is not wanted here. state: what the file stored for it."""

    state: Any

    def __new__(cls, *_arguments: object) -> InertRecord:
        """Whatever arguments the file gives are dropped."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.__dict__["state"] = state


class Chumpy(InertRecord):
    """chumpy.ch.Ch: its array is `x`."""


class ChumpySelect(InertRecord):
    """chumpy.reordering.Select: `a`'s numbers at `idxs`, as `preferred_shape`."""


class Sparse(InertRecord):
    """A scipy sparse matrix of some format."""


class SparseColumns(Sparse):
    """csc_matrix."""


class SparseRows(Sparse):
    """csr_matrix."""


class SparseTriples(Sparse):
    """coo_matrix: numbers with the row and column of each."""


class _Function:
    """An allowed function as an object without attributes, so that a BUILD instruction cannot change it."""

    __slots__ = ()


class _RebuildArray(_Function):
    __slots__ = ()

    def __call__(self, kind: type, shape: object, code: object) -> np.ndarray:
        if kind is not np.ndarray:
            raise pickle.UnpicklingError(f"array of class {kind!r}")
        return np.ndarray((0,), np.int8)  # numpy's own stand-in; its state, which follows, brings shape and numbers


class _RebuildScalar(_Function):
    __slots__ = ()

    def __call__(self, dtype: np.dtype, data: object = b"") -> Any:
        if not isinstance(dtype, np.dtype) or dtype.hasobject:
            raise pickle.UnpicklingError("a scalar that is not a number")
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)  # type: ignore[call-overload]
        return np.frombuffer(raw, dtype, 1)[0]


class _RebuildObject(_Function):
    __slots__ = ()

    def __call__(self, kind: type, base: object = object, state: object = None) -> InertRecord:
        if not (isinstance(kind, type) and issubclass(kind, InertRecord)):
            raise pickle.UnpicklingError(f"object of class {kind!r}")
        return kind()


class _FromBuffer(_Function):
    """numpy's arrays in protocol 5: the numbers, their type, the shape, and the order of axes in memory."""

    __slots__ = ()

    def __call__(
        self, data: object, dtype: object, shape: object, order: str = "C", axes: tuple[int, ...] | None = None
    ) -> np.ndarray:
        if not isinstance(data, bytes | bytearray) or not isinstance(dtype, np.dtype) or dtype.hasobject:
            raise pickle.UnpicklingError("an array that is not numbers")
        flat = np.frombuffer(data, dtype).copy() if len(data) else np.empty(0, dtype)
        if order == "K" and axes is not None:
            return flat.reshape(shape).transpose(axes)  # type: ignore[call-overload]
        return flat.reshape(shape, order=order)  # type: ignore[call-overload]


class _EncodeLatin1(_Function):
    __slots__ = ()

    def __call__(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1", "iso-8859-1"):
            raise pickle.UnpicklingError(f"text in encoding {encoding!r}")
        return text.encode("latin1")


class _NoBytes(_Function):
    """An empty byte string, as protocols 0 to 2 write it."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class _Ignore(_Function):
    __slots__ = ()

    def __call__(self, *arguments: object) -> InertRecord:
        return InertRecord()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("copy_reg", "_reconstructor"): _RebuildObject(),
    ("copyreg", "_reconstructor"): _RebuildObject(),
    ("_codecs", "encode"): _EncodeLatin1(),
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("chumpy.ch", "Ch"): Chumpy,
    ("chumpy.reordering", "Select"): ChumpySelect,
    ("torch._utils", "_rebuild_tensor_v2"): _Ignore(),
    ("torch.storage", "_load_from_bytes"): _Ignore(),
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED |= {(_core, "_reconstruct"): _RebuildArray(), (_core, "scalar"): _RebuildScalar()}
for _core in ("numpy.core.numeric", "numpy._core.numeric"):
    _ALLOWED[_core, "_frombuffer"] = _FromBuffer()
for _builtins in ("__builtin__", "builtins"):
    _ALLOWED |= {(_builtins, "set"): set, (_builtins, "object"): object}
    _ALLOWED[_builtins, "bytes"] = _NoBytes()
for _module in ("scipy.sparse", "scipy.sparse.csc", "scipy.sparse._csc"):
    _ALLOWED |= {(_module, "csc_matrix"): SparseColumns, (_module, "csc_array"): SparseColumns}
for _module in ("scipy.sparse", "scipy.sparse.csr", "scipy.sparse._csr"):
    _ALLOWED |= {(_module, "csr_matrix"): SparseRows, (_module, "csr_array"): SparseRows}
for _module in ("scipy.sparse", "scipy.sparse.coo", "scipy.sparse._coo"):
    _ALLOWED |= {(_module, "coo_matrix"): SparseTriples, (_module, "coo_array"): SparseTriples}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which holds no numbers")
        return _ALLOWED[module, name]


def load_pickle(data: bytes, file: Path) -> Any:
    """The object in a pickle of protocol 0 to 5 (Python 2 text as latin1). Raises BodyFileError if it wants to run something."""
    try:
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise BodyFileError(f"{file}: refused: {error}") from None
    except (EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, MemoryError, UnicodeError) as error:
        raise BodyFileError(f"{file}: not a whole pickle of numbers ({type(error).__name__}: {error})") from None


def plain(value: Any, where: str) -> Any:
    """Turn records into arrays: chumpy by its rule, sparse to dense. `where` names file and key in errors (BodyFileError)."""
    try:
        if isinstance(value, ChumpySelect):
            flat = np.asarray(plain(value.state["a"], where)).ravel()
            return flat[np.asarray(value.state["idxs"])].reshape(value.state["preferred_shape"])
        if isinstance(value, Chumpy):
            return np.asarray(plain(value.state["x"], where))
        if isinstance(value, Sparse):
            return _dense(value)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise BodyFileError(f"{where}: a {type(value).__name__} record without its numbers ({error!r})") from None
    return value


def _dense(value: Sparse) -> np.ndarray:
    import scipy.sparse

    state = value.state
    shape = state.get("_shape", state.get("shape"))
    if isinstance(value, SparseTriples):
        places = state["coords"] if "coords" in state else (state["row"], state["col"])
        return np.asarray(scipy.sparse.coo_matrix((state["data"], places), shape=shape).todense())
    kind = scipy.sparse.csc_matrix if isinstance(value, SparseColumns) else scipy.sparse.csr_matrix
    matrix = kind((state["data"], state["indices"], state["indptr"]), shape=shape)
    matrix.check_format(full_check=True)
    return np.asarray(matrix.todense())
