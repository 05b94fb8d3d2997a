"""Read a pickled torch module without executing anything: classes become inert stubs, only tensors are real."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

STUBBED = ("metro.", "src.modeling.", "torch.nn.", "apex.normalization.", "yacs.config.")
"""Classes and functions of these packages are replaced by stubs; their code is never imported."""
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_PRIMITIVES: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "__builtin__.set": set,
    "torch.Size": tuple,
    "torch.device": lambda *_: None,
    **{
        f"torch.{name}": getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16", "int64", "bool")
    },
}
_MAX_DEPTH = 64


class WeightsError(ValueError):
    """A weights file is not what it should be; the message names file and keys and says what to do."""


class Stub(dict[Any, Any]):
    """An object of an unknown class: its class path, its attributes, and its items if it is a dictionary. Does nothing."""

    path = ""

    def __new__(cls, *_: Any, **__: Any) -> Stub:
        """Take any arguments; keep none."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.__dict__.update({str(key): value for key, value in part.items()})


@dataclass(frozen=True)
class _StorageType:
    dtype: torch.dtype


class _Unpickler(pickle.Unpickler):
    """`find_class` knows tensors and a few containers, stubs the recorded packages and refuses every other name."""

    def __init__(self, archive: zipfile.ZipFile, root: str, file: Path) -> None:
        self._stream = archive.open(f"{root}/data.pkl")
        super().__init__(self._stream)
        self._archive, self._root, self._file = archive, root, file
        self._stubs: dict[str, type[Stub]] = {}
        self._storages: dict[str, torch.Tensor] = {}
        self._known: dict[str, Any] = {
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
            "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
            **_PRIMITIVES,
        }

    def find_class(self, module: str, name: str) -> Any:
        """The harmless stand-in for a global. Raises WeightsError for names outside the list."""
        path = f"{module}.{name}"
        if path in self._known:
            return self._known[path]
        if module == "torch" and name in _DTYPES:
            return _StorageType(_DTYPES[name])
        if path.startswith(STUBBED):
            return self._stubs.setdefault(path, type(name.rpartition(".")[2], (Stub,), {"path": path}))
        raise WeightsError(
            f"{self._file}: refused, because the file asks for {path!r}, which no network needs."
            " Nothing was executed; get the file from its authors again"
        )

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """A storage of the archive as a flat tensor."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], _StorageType)):
            raise WeightsError(f"{self._file}: a tensor record is malformed; copy the file again")
        kind, key, count = pid[1], str(pid[2]), pid[4]
        if key not in self._storages:
            data = self._archive.read(f"{self._root}/data/{key}")
            values = torch.frombuffer(bytearray(data), dtype=kind.dtype) if data else torch.empty(0, dtype=kind.dtype)
            if len(values) != count:
                raise WeightsError(
                    f"{self._file}: tensor {key} holds {len(values)} numbers, not {count}; copy the file again"
                )
            self._storages[key] = values
        return self._storages[key]

    @staticmethod
    def _tensor(
        storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> torch.Tensor:
        if math.prod(size) > len(storage):  # a stride of 0 would make a giant of a few bytes
            raise ValueError(f"a tensor of {tuple(size)} in a storage of {len(storage)}")
        return storage.as_strided(tuple(size), tuple(stride), offset)  # torch checks that it stays inside the storage


def read_pickled_module(file: Path) -> Stub:
    """The stub tree of a module saved with `torch.save(module, file)`. Raises WeightsError; executes nothing of the file."""
    try:
        with zipfile.ZipFile(file) as archive:
            root = _root(archive, file)
            loaded = _Unpickler(archive, root, file).load()
    except FileNotFoundError:
        raise WeightsError(f"{file}: no such file") from None
    except WeightsError:
        raise
    except zipfile.BadZipFile:
        raise WeightsError(f"{file}: not a file of torch.save (or written before torch 1.6); copy it again") from None
    except Exception as error:  # a pickle stream can break in any way; none of them ran code of the file
        raise WeightsError(f"{file}: damaged ({type(error).__name__}: {error}); copy it again") from error
    if not isinstance(loaded, Stub) or "_modules" not in loaded.__dict__:
        raise WeightsError(f"{file}: holds a {type(loaded).__name__}, not a network")
    return loaded


def _root(archive: zipfile.ZipFile, file: Path) -> str:
    members = archive.infolist()
    roots = [member.filename.rpartition("/")[0] for member in members if member.filename.endswith("/data.pkl")]
    if len(roots) != 1:
        raise WeightsError(f"{file}: has no data.pkl, so it was not written by torch.save")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise WeightsError(f"{file}: has compressed members, which torch.save never writes; refused")
    return roots[0]


def module_tensors(root: Stub) -> dict[str, torch.Tensor]:
    """Parameters and buffers by state-dict name."""
    tensors: dict[str, torch.Tensor] = {}

    def visit(prefix: str, module: Stub) -> None:
        for kind in ("_parameters", "_buffers"):
            for name, value in module.__dict__.get(kind, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{prefix}{name}"] = value

    walk_modules(root, visit)
    return tensors


def walk_modules(root: Stub, visit: Callable[[str, Stub], None]) -> None:
    """Call visit(prefix, module) for the module and all below it. Raises WeightsError for absurd nesting."""

    def descend(prefix: str, module: Any, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise WeightsError("modules are nested without end; refused")
        if not isinstance(module, Stub):
            return
        visit(prefix, module)
        for name, child in module.__dict__.get("_modules", {}).items():
            descend(f"{prefix}{name}.", child, depth + 1)

    descend("", root, 0)
