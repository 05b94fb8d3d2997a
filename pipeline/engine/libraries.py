"""Versions of the libraries that decide pixels and scores: the same photo gives the same sample only under the same ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

# What every run decodes, resizes, warps and encodes pictures with.
PIXELS = ("numpy", "opencv", "pillow", "simplejpeg")
# {library: (oldest, newest) version with which tests/pipeline/test_golden_keys.py finds the golden keys}; newest: or constraints.txt's.
TESTED = {
    "ai-edge-litert": ("2.3.0", "2.3.0"),
    "mediapipe": ("0.10.14", "0.10.14"),
    "numpy": ("2.0.0", "2.5.5"),
    "onnxruntime": ("1.32.0", "1.32.0"),
    "opencv": ("5.0.0.93", "5.0.0.93"),
    "openvino": ("2025.2.0", "2026.4.1"),
    "pillow": ("10.3.0", "13.0.0"),
    "simplejpeg": ("1.7.4", "1.9.0"),
    "torch": ("2.6.0", "2.14.1"),
}
_OPENCV_WHEELS = ("opencv-contrib-python", "opencv-python", "opencv-contrib-python-headless", "opencv-python-headless")


def installed(libraries: Iterable[str]) -> dict[str, str]:
    """{library: version}, in alphabetical order, without what is not installed and without local marks such as +cpu."""
    found = {name: _version(name) for name in sorted(set(libraries))}
    return {name: number for name, number in found.items() if number is not None}


def untested(found: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """{library: (oldest, newest) tested version} of those of `found` ({library: version}) that lie outside."""
    return {
        name: TESTED[name]
        for name, number in found.items()
        if not _numbers(TESTED[name][0]) <= _numbers(number) <= _numbers(TESTED[name][1])
    }


def differing(wanted: Mapping[str, str], found: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """{library: (version wanted, version found)} where they differ, in alphabetical order; "absent" stands for none."""
    pairs = {name: (wanted.get(name, "absent"), found.get(name, "absent")) for name in sorted({*wanted, *found})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def distributions(library: str) -> tuple[str, ...]:
    """Names by which pip knows a library; whichever opencv wheel is there gives cv2."""
    return _OPENCV_WHEELS if library == "opencv" else (library,)


def _numbers(number: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", number))


def _version(library: str) -> str | None:
    for name in distributions(library):
        try:
            return version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return None
