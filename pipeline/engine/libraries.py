"""Versions of the libraries that decide pixels and scores: the same photo gives the same sample only under the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

# What every run decodes, resizes, warps and encodes pictures with.
PIXELS = ("numpy", "opencv", "pillow", "simplejpeg")
# {library: the version that the golden keys of tests/pipeline/test_golden_keys.py were made with}; those of constraints.txt.
TESTED = {
    "ai-edge-litert": "2.3.0",
    "mediapipe": "0.10.14",
    "numpy": "2.4.6",
    "onnxruntime": "1.32.0",
    "opencv": "5.0.0.93",
    "openvino": "2026.4.1",
    "pillow": "13.0.0",
    "simplejpeg": "1.9.0",
    "torch": "2.13.0",
}
_OPENCV_WHEELS = ("opencv-contrib-python", "opencv-python", "opencv-contrib-python-headless", "opencv-python-headless")


def installed(libraries: Iterable[str]) -> dict[str, str]:
    """{library: version}, in alphabetical order, without what is not installed and without local marks such as +cpu."""
    found = {name: _version(name) for name in sorted(set(libraries))}
    return {name: number for name, number in found.items() if number is not None}


def differing(wanted: Mapping[str, str], found: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """{library: (version wanted, version found)} where they differ, in alphabetical order; "absent" stands for none."""
    pairs = {name: (wanted.get(name, "absent"), found.get(name, "absent")) for name in sorted({*wanted, *found})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def distributions(library: str) -> tuple[str, ...]:
    """Names by which pip knows a library; whichever opencv wheel is there gives cv2."""
    return _OPENCV_WHEELS if library == "opencv" else (library,)


def _version(library: str) -> str | None:
    for name in distributions(library):
        try:
            return version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return None
