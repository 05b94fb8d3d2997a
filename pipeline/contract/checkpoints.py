"""Weights on an object store: copied to this machine before they are loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handface.pipeline.contract.storage import Folder

_FILES, _NOTE = ("config.json", "model.safetensors"), "training.json"


@contextmanager
def local_weights(name: str, files: tuple[str, ...] = _FILES) -> Iterator[str]:
    """A network's name or local folder as it is; of a folder on an object store (s3://, gs://) a copy, which goes with the block.

    Args:
        name: A preset, a folder, a fsspec URI of one, or the model.safetensors in one.
        files: What is needed of it.

    Raises:
        FileNotFoundError: The store has no such file; the message says where it was looked for.
        AddressRefusedError: A web address.
    """
    if "://" not in name:
        yield str(Path(name).expanduser())
        return
    remote = Folder(name.rstrip("/").removesuffix("/model.safetensors"))
    with tempfile.TemporaryDirectory(prefix="handface-weights-") as scratch:
        for file in files:
            try:
                (Path(scratch) / file).write_bytes(remote.read(file))
            except FileNotFoundError as error:
                where = f"{remote.uri}/{file}"
                raise FileNotFoundError(f"{where}: no such file; weights are a folder with {files}") from error
        if remote.exists(_NOTE):
            (Path(scratch) / _NOTE).write_bytes(remote.read(_NOTE))
        yield scratch
