"""Weights on an object store: copied to this machine before they are loaded."""

from __future__ import annotations

from pathlib import Path

from handface.pipeline.contract.storage import Folder

_FILES, _NOTE = ("config.json", "model.safetensors"), "training.json"


def local_weights(name: str, scratch: Path, files: tuple[str, ...] = _FILES) -> str:
    """A network's name or local folder as it is; of a folder on an object store (s3://, gs://) a copy of it in `scratch`.

    Args:
        name: A preset, a folder, a fsspec URI of one, or the model.safetensors in one.
        scratch: An empty folder, which has to stay until the weights are loaded.
        files: What is needed of it.

    Raises:
        FileNotFoundError: The store has no such file; the message says where it was looked for.
        AddressRefusedError: A web address.
    """
    if "://" not in name:
        return str(Path(name).expanduser())
    remote = Folder(name.rstrip("/").removesuffix("/model.safetensors"))
    for file in files:
        try:
            (scratch / file).write_bytes(remote.read(file))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{remote.uri}/{file}: no such file; weights are a folder with {files}") from error
    if remote.exists(_NOTE):
        (scratch / _NOTE).write_bytes(remote.read(_NOTE))
    return str(scratch)
