"""Lists of inputs, streamed: a folder or glob, a crawl, a list of URLs, a WebDataset tar, a video. `open_source` picks the class."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import PurePosixPath

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.sources.base import Source, SourceConfig
from handface.pipeline.sources.crawl import CrawlSource, is_crawl
from handface.pipeline.sources.folder import FileSource, FolderSource
from handface.pipeline.sources.lists import LIST_SUFFIXES, ListSource
from handface.pipeline.sources.tar import TAR_SUFFIXES, TarSource
from handface.pipeline.sources.video import VIDEO_SUFFIXES, VideoSource

__all__ = ["Source", "SourceConfig", "open_source"]

_SUFFIXES: dict[type[ListSource] | type[TarSource] | type[VideoSource], tuple[str, ...]] = {
    ListSource: LIST_SUFFIXES,
    TarSource: TAR_SUFFIXES,
    VideoSource: VIDEO_SUFFIXES,
}


def open_source(inputs: Sequence[str], config: SourceConfig = SourceConfig()) -> Iterator[SourceItem]:
    """Every input of every argument, in order, without holding the list. An argument that cannot be listed is one item
    with a problem, so that it is counted like any other."""
    return chain.from_iterable(_guarded(uri, config) for uri in inputs)


def source_for(uri: str, config: SourceConfig) -> Source:
    """The class that lists `uri`: by suffix; a folder or a pattern otherwise; a single file at last."""
    name = PurePosixPath(uri.split("?")[0]).name.lower()
    for source, suffixes in _SUFFIXES.items():
        if name.endswith(suffixes):
            return source(uri, config)
    if uri.startswith(("http://", "https://")):
        return FileSource(uri)
    if is_crawl(uri):
        return CrawlSource(uri, config)
    return FolderSource(uri)


def _guarded(uri: str, config: SourceConfig) -> Iterator[SourceItem]:
    listed = source_for(uri, config)
    try:
        yield from listed
    except FileNotFoundError:
        yield SourceItem(uri, problem=Reason.NOT_FOUND, detail=f"{uri} does not exist")
    except (OSError, ImportError, EOFError, csv.Error, zlib.error) as error:  # also a list that breaks off half-way
        yield SourceItem(uri, problem=Reason.UNREADABLE, detail=f"{type(error).__name__}: {error}")
    except ValueError as error:
        unknown = "protocol" in str(error).lower()
        yield SourceItem(uri, problem=Reason.UNKNOWN_SCHEME if unknown else Reason.UNREADABLE, detail=str(error))
