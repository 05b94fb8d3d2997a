"""Packages that only some uses need: a missing one is named together with the extra that brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

OPENCV_LIBRARIES = "apt-get install libgl1 libglib2.0-0"


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Around the imports of an extra's packages.

    Args:
        name: The extra, as in `pip install 'handface[name]'`.
        what: Who needs it, to begin the sentence with.

    Raises:
        ImportError: A package is missing; the message says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(name, what, (error.name or str(error)).partition(".")[0]) from error


def require(name: str, what: str, *packages: str) -> None:
    """Look for an extra's packages without importing them, before any work is done. Raises ImportError as `extra` does."""
    for package in packages:
        if find_spec(package) is None:
            raise _missing(name, what, package)


def require_opencv() -> None:
    """Raises ImportError that names the system's packages where OpenCV does not load, as in a container without them."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise ImportError(f"OpenCV does not load ({error}): {OPENCV_LIBRARIES}", name="cv2") from error


def _missing(name: str, what: str, package: str) -> ImportError:
    return ImportError(f"{what} needs the package {package}: pip install 'handface[{name}]'", name=package)
