"""The output folder of `handface crawl`: the kept images of every round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.names.url_names import is_web
from handface.pipeline.contract.parts import CRAWL
from handface.pipeline.sources.base import Notes, SourceConfig
from handface.pipeline.sources.tar import TarSource

if TYPE_CHECKING:
    from handface.pipeline.contract.damage import Damage
    from handface.pipeline.contract.parts import FinishedPart


@dataclass(frozen=True)
class CrawlSource:
    """Images of the finished parts, round by round, parts in name order; provenance travels in the columns."""

    uri: str
    config: SourceConfig = field(default_factory=SourceConfig)
    notes: Notes = field(default_factory=Notes, compare=False)

    def __iter__(self) -> Iterator[SourceItem]:
        from handface.pipeline.contract.parts import read_parts

        for folder in round_folders(self.uri):
            for part in read_parts(folder):
                if part.manifest.kept:
                    yield from TarSource(part.uri("tar"), self.config, self.notes)


def round_folders(uri: str) -> list[str]:
    """The folders that hold parts: a crawl's rounds, or the folder itself."""
    import json

    from handface.pipeline.contract.storage import Folder

    if not is_crawl(uri):
        return [uri]
    return [f"{uri.rstrip('/')}/{entry['name']}" for entry in json.loads(Folder(uri).read(CRAWL))["rounds"]]


def finished_parts(uri: str, damage: Damage) -> Iterator[FinishedPart]:
    """Parts of a folder, a crawl's round by round. damage: is told of those that are left out.

    Raises FileNotFoundError if none is whole.
    """
    from handface.pipeline.contract.parts import no_parts, none_whole, read_parts

    before, empty = len(damage.files), True
    for folder in round_folders(uri):
        for part in read_parts(folder, damage):
            empty = False
            yield part
    if empty:
        if len(damage.files) == before:
            raise FileNotFoundError(no_parts(uri))
        raise FileNotFoundError(none_whole(uri, damage.files))


def is_crawl(uri: str) -> bool:
    """Whether a folder was written by `handface crawl`."""
    from handface.pipeline.contract.storage import Folder

    if is_web(uri):
        return False
    try:
        return Folder(uri.removeprefix("file://")).exists(CRAWL)
    except (OSError, ValueError, ImportError):  # the source that lists it says what is wrong
        return False
