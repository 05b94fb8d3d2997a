"""Inputs of a prediction: files, URLs, folders, lists and tars become photos one at a time, each or the reason it is none."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from handface.counted import counted
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.sources import open_source
from handface.pipeline.sources.video import VIDEO_SUFFIXES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)
MIN_SIDE = 48  # pixels; nothing can be seen in less
# names of a run's own files, and of those of one person in another photo
_OTHERS = re.compile(r"summary|keypoints_coco|.+_\d+_(contact|parameters)")


class InputError(ValueError):
    """An input is no usable photo; the message says why."""


@dataclass(frozen=True)
class Input:
    """One photo or one whole video. name: how people see it.  stem: what its results are called."""

    item: SourceItem
    name: str
    stem: str
    is_video: bool


def list_inputs(uris: Sequence[str], *, any_file: bool = False) -> Iterator[Input]:
    """Every photo and video of files, URLs, folders, patterns, lists and tars, in order, each once; stems are made unique.

    What an earlier `predict` wrote into a folder or pattern is left out, with a warning.

    any_file: rows of lists may name local files that do not lie below the list's folder.
    """
    stems, seen, results = _Stems(), set[str](), 0
    for item in open_source(uris, whole_videos=True, any_file=any_file):
        if item.problem is None:
            if item.name in seen:
                continue
            seen.add(item.name)
            if item.member is None and item.uri not in uris and _is_result(item.uri):
                results += 1
                continue
        stem = stems.unique(PurePosixPath((item.member or item.uri).split("?")[0]).stem or "photo")
        yield Input(item, item.name, stem, item.problem is None and item.member is None and _is_video(item.uri))
    if results:
        log.warning("left out %s of an earlier predict", counted(results, "result"))


def _is_result(uri: str) -> bool:
    """Whether a local file is an overlay, a contact map or a picture of the page that `handface predict` wrote."""
    path = Path(uri)
    if "://" in uri or path.suffix not in (".png", ".mp4", ".jpg"):
        return False
    if path.suffix == ".jpg":
        return path.parent.name == "page" and all(
            (path.parents[1] / name).exists() for name in ("summary.json", "index.html")
        )
    if path.suffix == ".mp4":
        return _holds(path.with_suffix(".parquet"), b"head_contact_vertices")
    return _holds(path.with_name(re.sub(r"_\d+_contact$", "", path.stem) + ".json"), b'"handface-prediction/')


def _holds(path: Path, text: bytes) -> bool:
    """Whether a file is there and holds this."""
    try:
        return text in path.read_bytes()
    except OSError:
        return False


class _Stems:
    """Gives every input a name of its own, on file systems that do not tell `A` from `a`, too."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def unique(self, stem: str) -> str:
        """`stem`, or `stem-2` and so on where that would overwrite the files of another input or of the run."""
        key, name = stem.casefold(), stem
        while name.casefold() in self._taken or _OTHERS.fullmatch(name.casefold()):
            self._counts[key] = self._counts.get(key, 1) + 1
            name = f"{stem}-{self._counts[key]}"
        self._taken.add(name.casefold())
        return name


def _is_video(uri: str) -> bool:
    return uri.split("?")[0].lower().endswith(VIDEO_SUFFIXES)


class PhotoReader:
    """Bytes -> pixels with the pipeline's own caps: by content, upright, 8-bit RGB, alpha on white."""

    def __init__(self) -> None:
        from handface.pipeline.contract.images.picture import DecodeConfig
        from handface.pipeline.stages.decode import DecodeStage
        from handface.pipeline.stages.read import ReadStage

        self._stages = (ReadStage(), DecodeStage(DecodeConfig(min_side=MIN_SIDE)))
        for stage in self._stages:
            stage.setup()
            stage.start_unit()

    def __enter__(self) -> PhotoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the network, if a URL was read."""
        for stage in self._stages:
            stage.close()

    def __call__(self, source: str | Path | SourceItem) -> NDArray[np.uint8]:
        """A path, URL or listed item -> (H, W, 3) uint8 RGB. Raises InputError with the reason."""
        item = source if isinstance(source, SourceItem) else SourceItem(str(source))
        record = Record(item)
        for stage in self._stages:
            stage([record])
            if record.reason is not None:
                reason = record.reason.value.replace("_", " ")
                raise InputError(f"{reason}: {record.detail}" if record.detail else reason)
        assert record.image is not None
        return record.image
