"""Asks again, before training: are the pictures still there, and is their use still permitted? Consent changes over time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from handface.pipeline.contract.parts import read_parts
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.crawler import Crawler

_AT_ONCE = 2048


@dataclass(frozen=True)
class Exclusion:
    """A sample that must not be used any more, and why."""

    key: str
    uri: str
    reason: str
    detail: str


def kept_samples(folders: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(key, URL) of every kept sample that came from the web. Raises FileNotFoundError for a folder without parts."""
    from handface.pipeline.contract.storage import Folder
    from handface.pipeline.sources.crawl import CRAWL, is_crawl

    for folder in folders:
        inner = [folder]
        if is_crawl(folder):
            import json

            inner = [
                f"{folder.rstrip('/')}/{entry['name']}" for entry in json.loads(Folder(folder).read(CRAWL))["rounds"]
            ]
        empty = True
        for part in (part for one in inner for part in read_parts(one)):
            empty = False
            table = part.rows().select(["key", "uri", "kept"])
            for row in table.to_pylist():
                if row["kept"] and row["uri"].startswith(("http://", "https://")):
                    yield row["key"], row["uri"]
        if empty:
            raise FileNotFoundError(f"{folder} has no finished parts")


def recheck(
    samples: Sequence[tuple[str, str]],
    config: HttpConfig,
    *,
    keep_unreachable: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Exclusion]:
    """Ask each site's files again, and each picture's headers (HEAD). Whatever does not say yes is excluded, in input order.

    keep_unreachable: a site that cannot be reached now counts as saying what it said before.
    """
    return asyncio.run(_recheck(samples, config, keep_unreachable, progress))


async def _recheck(
    samples: Sequence[tuple[str, str]], config: HttpConfig, keep_unreachable: bool, progress: Callable[[int], None]
) -> list[Exclusion]:
    crawler = Crawler(config)
    found: list[Exclusion] = []

    async def one(key: str, uri: str) -> Exclusion | None:
        answer = await crawler.fetch(uri, method="HEAD")
        progress(1)
        if answer.reason is None or answer.detail in ("status 405", "status 501"):  # no HEAD there; its files said yes
            return None
        if keep_unreachable and answer.reason in ("dns", "timeout", "network", "tls", "http_5xx", "http_429"):
            return None
        return Exclusion(key, uri, answer.reason.value, answer.detail)

    try:
        for start in range(0, len(samples), _AT_ONCE):
            some = samples[start : start + _AT_ONCE]
            answers = await asyncio.gather(*(one(*sample) for sample in some))
            found += [answer for answer in answers if answer is not None]
    finally:
        await crawler.close()
    return found


def write_exclusions(path: str, found: Sequence[Exclusion]) -> None:
    """Write the list as parquet with columns key, uri, reason, detail: what `--exclude` of export and training takes."""
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("key", "uri", "reason", "detail")
    schema = pa.schema([(name, pa.string()) for name in names])
    columns = {name: [getattr(one, name) for one in found] for name in names}
    with fsspec.open(path, "wb") as stream:
        pq.write_table(pa.table(columns, schema), stream, compression="zstd")
