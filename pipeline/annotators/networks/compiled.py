"""Compiled networks kept for the next process: OpenVINO compiles the detector's six in seconds and reads them back in tenths.

A file is a sha256 and what OpenVINO exported. Its name is a hash of the network, the hints, the processor and OpenVINO's version.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from handface.model.network.openvino_import import import_openvino, openvino_core
from handface.pipeline.contract.user_cache import cache_folder, keep

log = logging.getLogger(__name__)
_DIGEST = hashlib.sha256().digest_size


def compile_once(identity: bytes, hints: Mapping[str, Any], build: Callable[[], Any]) -> Any:
    """The compiled network of `build()`, an `openvino.Model`, for the CPU; read from the user's cache where it is known and whole.

    identity: what `build` makes its model from.  hints: properties of the compilation, part of the identity.
    A cache that cannot be read or written only costs the time to compile.
    """
    core = openvino_core()
    machine = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    facts = (import_openvino().get_version(), machine, {name: str(value) for name, value in hints.items()})
    name = hashlib.sha256(hashlib.sha256(identity).digest() + repr(facts).encode()).hexdigest()
    try:
        file = cache_folder("networks") / name
    except RuntimeError:  # in a container the user may have no home
        return core.compile_model(build(), "CPU", dict(hints))
    if (known := _read(file)) is not None:
        with suppress(RuntimeError):
            return core.import_model(known, "CPU", dict(hints))
    compiled = core.compile_model(build(), "CPU", dict(hints))
    content = compiled.export_model().getvalue()
    try:
        keep(file, hashlib.sha256(content).digest() + content)
    except OSError as error:
        log.debug("compiled networks are not kept: %s", error)
    return compiled


def _read(file: Path) -> bytes | None:
    """What OpenVINO exported, None where nothing whole is."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, exported = content[:_DIGEST], content[_DIGEST:]
    return exported if hashlib.sha256(exported).digest() == digest else None
