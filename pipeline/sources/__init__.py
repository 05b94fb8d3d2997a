"""Lists of inputs, streamed: folders, globs, crawls, lists of URLs, WebDataset tars, videos. `open_source` picks the class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.names.addresses import AddressRefusedError, UnknownSchemeError, filesystem_of, may_open
from handface.pipeline.contract.names.patterns import expand, is_remote, local
from handface.pipeline.contract.names.url_names import is_web
from handface.pipeline.sources.base import InputSource, Notes, SourceConfig, Unlisted
from handface.pipeline.sources.crawl import CrawlSource, is_crawl
from handface.pipeline.sources.folder import IMAGE_SUFFIXES, FileSource, ignored_kind, walk_folder
from handface.pipeline.sources.lists import LIST_SUFFIXES, ListSource
from handface.pipeline.sources.tar import PACKED_SUFFIXES, TAR_SUFFIXES, PackedSource, TarSource
from handface.pipeline.sources.video import VIDEO_SUFFIXES, VideoSource

__all__ = ["InputSource", "Notes", "SourceConfig", "Unlisted", "find_sources", "open_source"]


def open_source(
    inputs: Sequence[str],
    config: SourceConfig = SourceConfig(),
    notes: Notes | None = None,
    *,
    any_file: bool = False,
    whole_videos: bool = False,
) -> Iterator[SourceItem]:
    """Every input of every argument, in order, without holding the list.

    Args:
        inputs: Files, folders, globs, lists, tars, videos, URLs.
        config: How they are read.
        notes: Gets what was seen beside the inputs.
        any_file: Rows of lists may name local files that do not lie below the list's folder.
        whole_videos: A video is one input, not its frames.

    Yields:
        Inputs. What cannot be listed, or not to its end, is one `Unlisted` with its problem, so that it is counted like any other.
    """
    notes = Notes() if notes is None else notes
    for uri in inputs:
        try:
            for source in find_sources(uri, config, notes, any_file=any_file):
                whole = whole_videos and isinstance(source, VideoSource)
                yield from _guarded(FileSource(source.uri) if whole else source)
        except Exception as error:
            yield _problem(uri, error)


def find_sources(
    uri: str, config: SourceConfig = SourceConfig(), notes: Notes | None = None, *, any_file: bool = False
) -> Iterator[InputSource]:
    """What an argument names, one by one: patterns and folders are gone through. Raises as the filesystem does."""
    opened = _Opener(config, Notes() if notes is None else notes, any_file)
    may_open(uri)
    for name in expand(uri):
        if is_web(name):
            yield opened.by_suffix(name, name.partition("?")[0]) or FileSource(name)
        elif not _is_folder(name):
            yield opened.by_suffix(name) or FileSource(_existing(name))
        elif name.rstrip("/").endswith(".parquet"):
            yield opened.list(name.rstrip("/"))
        elif is_crawl(name):
            yield CrawlSource(name, opened.config, opened.notes)
        else:
            yield from opened.folder(name)


@dataclass(frozen=True)
class _Opener:
    """Makes sources that share their options."""

    config: SourceConfig
    notes: Notes
    any_file: bool

    def by_suffix(self, uri: str, name: str = "") -> InputSource | None:
        name = (name or uri).lower()
        if name.endswith(LIST_SUFFIXES):
            return self.list(uri)
        if name.endswith(TAR_SUFFIXES):
            return TarSource(uri, self.config, self.notes)
        if name.endswith(VIDEO_SUFFIXES):
            return VideoSource(uri, self.config)
        return PackedSource(uri) if name.endswith(PACKED_SUFFIXES) else None

    def list(self, uri: str) -> ListSource:
        return ListSource(uri, self.config, self.notes, self.any_file)

    def folder(self, uri: str) -> Iterator[InputSource]:
        """Pictures, tars and videos below a folder. Lists in it are notes about them, unless there is nothing else."""
        lists: list[str] = []
        found = False
        ignored = Counter[str]()
        for path in walk_folder(uri, ignored):
            name = path.lower()
            if name.endswith(LIST_SUFFIXES):
                lists.append(path)
            elif name.endswith(IMAGE_SUFFIXES):
                found = True
                yield FileSource(path)
            elif name.endswith(TAR_SUFFIXES + VIDEO_SUFFIXES) and (source := self.by_suffix(path)) is not None:
                found = True
                yield source
            else:
                ignored[ignored_kind(path)] += 1
        if found:
            ignored.update(map(ignored_kind, lists))
        self.notes.ignored.update(ignored)
        if not found and not lists:
            beside = ", ".join(f"{kind} {count:,}" for kind, count in ignored.most_common(12))
            raise FileNotFoundError(
                f"{uri}: no picture, video, tar or list in this folder" + (f", only {beside}" if beside else "")
            )
        yield from map(self.list, lists if not found else ())


def _is_folder(name: str) -> bool:
    if not is_remote(name):
        return local(name).is_dir()
    filesystem, path = filesystem_of(name)
    return bool(filesystem.isdir(path))


def _existing(name: str) -> str:
    """A single file's name. Raises FileNotFoundError."""
    if not is_remote(name):
        if not local(name).exists():
            raise FileNotFoundError(f"{name} does not exist")
        return str(local(name))
    filesystem, path = filesystem_of(name)
    if not filesystem.exists(path):
        raise FileNotFoundError(f"{name} does not exist")
    return name


def _guarded(source: InputSource) -> Iterator[SourceItem]:
    try:
        yield from source
    except Exception as error:  # also a list or tar that breaks off half-way, and what storage libraries raise
        yield _problem(source.uri, error)


def _problem(uri: str, error: Exception) -> Unlisted:
    if isinstance(error, FileNotFoundError):
        detail = str(error) if uri in str(error) else f"{uri} does not exist"
        return Unlisted(uri, problem=Reason.NOT_FOUND, detail=detail)
    if isinstance(error, AddressRefusedError):
        reason = Reason.UNKNOWN_SCHEME if isinstance(error, UnknownSchemeError) else Reason.BAD_ADDRESS
        return Unlisted(uri, problem=reason, detail=str(error))
    if isinstance(error, ValueError | ImportError):
        return Unlisted(uri, problem=Reason.UNREADABLE, detail=str(error))
    return Unlisted(uri, problem=Reason.UNREADABLE, detail=f"{type(error).__name__}: {error}")
