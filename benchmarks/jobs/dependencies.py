"""What each package that handface may need weighs: megabytes that leave with it, and seconds of CPU to import it.

    python -m benchmarks.jobs.dependencies

Megabytes are of the package and of all that only it needs among those that are listed, in the environment that runs this.
"""

from __future__ import annotations

import importlib.metadata as metadata
import re
import resource
import subprocess
import sys
from functools import cache

from benchmarks.results import Figure, save_figures

# Name in the index: name to import. The core's own, then those that are in extras now.
CORE = {
    **{name: name for name in ("torch", "ray", "openvino", "pyarrow", "scipy", "onnx", "numpy", "aiohttp", "pydantic")},
    **{"opencv-contrib-python": "cv2", "pillow": "PIL", "pandas": "pandas", "trimesh": "trimesh", "tyro": "tyro"},
    **{name: name for name in ("rich", "safetensors", "fsspec", "simplejpeg", "flatbuffers", "idna")},
}
EXTRA = {
    **{name: name for name in ("transformers", "onnxruntime", "tensorboard", "webdataset", "huggingface_hub")},
    **{"grpcio": "grpc", "opencensus": "opencensus", "tensorboardx": "tensorboardX", "virtualenv": "virtualenv"},
    **{"opentelemetry-exporter-prometheus": "opentelemetry", "py-spy": "", "aiohttp-cors": "aiohttp_cors"},
}


def main() -> int:
    """Measure and save. Returns 0."""
    figures: list[Figure] = []
    listed = {**CORE, **EXTRA}
    for table, packages in (("core", CORE), ("in extras now", EXTRA)):
        for name, module in packages.items():
            own = closure(name) - {
                found for other in listed if other != name for found in closure(other) if found != name
            }
            row = f"{table} | {name}"
            figures.append(Figure(f"{row} | with it", f"{sum(map(megabytes, {name, *own})):.1f}", "MB"))
            figures.append(Figure(f"{row} | packages", str(len({name, *own}))))
            figures.append(
                Figure(f"{row} | import", f"{import_seconds(module):.2f}" if module else "-", "s" if module else "")
            )
    save_figures("install", figures)
    return 0


@cache
def closure(name: str) -> frozenset[str]:
    """A package and everything it needs without extras, as far as it is installed."""
    found, waiting = set(), [_plain(name)]
    while waiting:
        one = waiting.pop()
        try:
            needs = metadata.requires(one) or []
        except metadata.PackageNotFoundError:
            continue
        if one not in found:
            found.add(one)
            waiting += [_plain(re.split(r"[ ;<>=!~\[(]", need)[0]) for need in needs if "extra ==" not in need]
    return frozenset(found)


@cache
def megabytes(name: str) -> float:
    """Of a package's files."""
    return sum(file.size or 0 for file in metadata.files(name) or ()) / 1e6


def import_seconds(module: str) -> float:
    """CPU of a process that imports it, without that of one that imports nothing; the least of three."""
    return max(0.0, min(_cpu(f"import {module}") for _ in range(3)) - min(_cpu("pass") for _ in range(3)))


def _cpu(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.exit(main())
