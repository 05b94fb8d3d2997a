"""Only numbers come out of a pickle; a hostile one is refused before anything runs."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from handface.model.bodies import BodyFileError
from handface.model.bodies.restricted_pickle import load_pickle, plain


class Runs:
    """Pickles as a call."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def hostile(tmp_path: Path) -> dict[str, bytes]:
    marker = str(tmp_path / "ran")
    return {
        "os.system": pickle.dumps(Runs(os.system, f"touch {marker}"), 2),
        "open": pickle.dumps(Runs(open, marker, "w"), 2),
        "eval": pickle.dumps(Runs(eval, f"open({marker!r}, 'w')"), 4),
        "subprocess": pickle.dumps({"v_template": Runs(subprocess.run, ["touch", marker])}, 4),
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__class__\x93.",
        "getattr": pickle.dumps(Runs(getattr, "text", "format"), 2),
        "array subclass": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        "object of a wild class": b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
        "codec": b"c_codecs\nencode\n(Vabc\nVzlib\ntR.",
        # BUILD with slot state on an allowed class and on an allowed function: would change them for later files
        "changes a class": b"\x80\x02cchumpy.ch\nCh\nN}X\x0c\x00\x00\x00__setstate__cnumpy\nndarray\ns\x86b.",
        "changes a function": b"\x80\x02c_codecs\nencode\nN}X\x05\x00\x00\x00extraK\x01s\x86b.",
        "instance of the metaclass": b"\x80\x02cmodel.bodies.restricted_pickle\n_Sealed\n.",
        "torch loader runs nothing": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nctorch.storage\n_load_from_bytes\nK\x00\x87R.",
        "buffer of objects": b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(C\x08AAAAAAAAcnumpy\ndtype\n\x8c\x01O\x85RK\x01\x85\x8c\x01CtR.",
        "buffer of no bytes": b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(K\x05cnumpy\ndtype\n\x8c\x02f8\x85RK\x01\x85\x8c\x01CtR.",
        "buffer of another size": b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(C\x08AAAAAAAAcnumpy\ndtype\n\x8c\x02f8\x85RK\x09\x85\x8c\x01CtR.",
        "truncated": pickle.dumps({"a": np.zeros(100)}, 2)[:-50],
        "empty": b"",
        "not a pickle": b"hello world",
    }


@pytest.mark.parametrize("case", hostile(Path()))
def test_hostile_pickle_is_refused_and_runs_nothing(case: str, tmp_path: Path) -> None:
    with pytest.raises(BodyFileError, match=r"model\.pkl: "):
        load_pickle(hostile(tmp_path)[case], Path("model.pkl"))
    assert not (tmp_path / "ran").exists()


def test_classes_stay_as_they_were_after_hostile_files(tmp_path: Path, chumpy: Callable) -> None:
    for data in hostile(tmp_path).values():
        with pytest.raises(BodyFileError):
            load_pickle(data, Path("model.pkl"))
    value = load_pickle(pickle.dumps(chumpy(np.arange(6.0).reshape(2, 3)), 2), Path("model.pkl"))
    assert np.array_equal(plain(value, "x"), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_numbers_of_every_protocol(protocol: int) -> None:
    value = {
        "float": np.linspace(0, 1, 7).reshape(7, 1),
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "unsigned": np.array([[2**32 - 1, 0]], np.uint32),
        "scalar": np.float64(2.5),
        "text": "lbs",
        "csc": scipy.sparse.csc_matrix(np.eye(3)),
        "csr": scipy.sparse.csr_matrix(np.diag([1.0, 2.0])),
        "cs array by columns": scipy.sparse.csc_array(np.diag([1.0, 2.0])[:, :1]),
        "cs array by rows": scipy.sparse.csr_array(np.diag([1.0, 2.0])[:1]),
        "cs as triples": scipy.sparse.coo_array(np.diag([3.0, 2.0])),
        "cs matrix of triples": scipy.sparse.coo_matrix(np.diag([3.0, 2.0])),
        "empty": np.zeros((0, 3)),
        "turned": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
    }
    loaded = load_pickle(pickle.dumps(value, protocol), Path("m.pkl"))
    for key, expected in value.items():
        found = plain(loaded[key], key)
        assert np.array_equal(found, expected.todense() if "cs" in key else expected), key


def test_python2_strings_and_sparse_matrices(tmp_path: Path, write_python2: Callable) -> None:
    matrix = scipy.sparse.random(5, 9, 0.4, format="csc", random_state=0)
    path = write_python2(tmp_path / "m.pkl", {"a": np.arange(300.0), "m": matrix, "raw": b"\xff\x00"})
    assert b"scipy.sparse.csc\n" in path.read_bytes() and b"numpy.core.multiarray\n" in path.read_bytes()
    loaded = load_pickle(path.read_bytes(), path)
    assert np.array_equal(loaded["a"], np.arange(300.0))
    assert np.array_equal(plain(loaded["m"], "m"), matrix.toarray())


def test_torch_tensors_are_passed_over() -> None:
    """Nothing of them is rebuilt; Decaf needs only the numpy entries beside them."""
    content = {"dynamic": torch.arange(3), "full": np.arange(3)}
    loaded = load_pickle(pickle.dumps(content, 3), Path("lmk.npy"))
    assert np.array_equal(loaded["full"], np.arange(3))
    assert not isinstance(loaded["dynamic"], torch.Tensor)


def test_incomplete_records_name_the_key(chumpy: Callable) -> None:
    record = chumpy(np.zeros(3))
    del record.__dict__["x"]
    loaded = load_pickle(pickle.dumps(record, 2), Path("m.pkl"))
    with pytest.raises(BodyFileError, match=r"m\.pkl: key 'shapedirs'"):
        plain(loaded, "m.pkl: key 'shapedirs'")
    broken = scipy.sparse.csc_matrix(np.eye(3))
    broken.indices = broken.indices + 7
    with pytest.raises(BodyFileError, match="key 'J_regressor'"):
        plain(load_pickle(pickle.dumps(broken, 2), Path("m.pkl")), "key 'J_regressor'")
