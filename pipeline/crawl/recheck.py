"""Asks again, before training: are the pictures still there, and is their use still permitted? Consent changes over time."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from handface.pipeline.contract.damage import Damage
from handface.pipeline.contract.names.url_names import is_web
from handface.pipeline.contract.storage import Folder
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.crawler import Crawler

_AT_ONCE = 2048
_PASSES = 3  # over what was not asked, because its host had failed or had its time
_BELIEVED = 24 * 3600.0  # seconds that answers of an interrupted run count, as long as robots.txt is believed
_NO_HEAD = (405, 501)
Sample = tuple[str, str]


@dataclass(frozen=True)
class Refusal:
    """What a site said of a sample, if it did not say yes.

    Attributes:
        key: Of the sample.
        uri: Its address.
        reason: As a part shows it.
        detail: In words.
        asked: False if the site was not asked about it at all.
        reached: False if the site could not be asked.
    """

    key: str
    uri: str
    reason: str
    detail: str
    asked: bool = True
    reached: bool = True


@dataclass
class Recheck:
    """The outcome. excluded: must not be used any more. unknown: nobody was asked, or could be; run again for these."""

    excluded: list[Refusal] = field(default_factory=list)
    unknown: list[Refusal] = field(default_factory=list)


def kept_samples(folders: Iterable[str], damage: Damage | None = None) -> Iterator[Sample]:
    """(key, URL) of every kept sample that came from the web. Raises FileNotFoundError for a folder without parts.

    damage: is told of parts that are left out.
    """
    from handface.pipeline.sources.crawl import finished_parts

    damage = Damage() if damage is None else damage
    for folder in folders:
        for part in finished_parts(folder, damage):
            for row in part.rows(["key", "uri", "kept"]).to_pylist():
                if row["kept"] and is_web(row["uri"]):
                    yield row["key"], row["uri"]


def recheck(
    samples: Sequence[Sample],
    config: HttpConfig,
    *,
    keep_unreachable: bool = False,
    answers: Folder | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Recheck:
    """Ask each site's files again, and each picture's headers (HEAD).

    Args:
        samples: (key, URL).
        config: How the sites are asked; time budgets hold per 2,048 samples.
        keep_unreachable: A site that was asked and cannot be reached counts as saying what it said before.
        answers: Where answers wait until all are there, so that a run that was stopped goes on; removed when none is unknown.
        progress: Told how many more samples have their answer.

    Returns:
        What must be excluded, and what is unknown because its host was not asked, each in the order of the samples.
    """
    refusals = asyncio.run(_ask_all(samples, config, answers, progress))
    result = Recheck()
    for refusal in refusals:
        if not refusal.asked:
            result.unknown.append(refusal)
        elif not (keep_unreachable and not refusal.reached):
            result.excluded.append(refusal)
    if answers is not None and not result.unknown:
        for name in answers.sizes(suffix=".json"):
            answers.remove(name)
        if answers.local:
            with suppress(OSError):  # there may be none, or something else in it
                Path(answers.path()).rmdir()
    return result


async def _ask_all(
    samples: Sequence[Sample], config: HttpConfig, answers: Folder | None, progress: Callable[[int], None]
) -> list[Refusal]:
    crawler = Crawler(config)
    refusals: list[Refusal] = []
    try:
        for start in range(0, len(samples), _AT_ONCE):
            batch = samples[start : start + _AT_ONCE]
            found = _recall(answers, batch)
            if found is None:
                found = await _ask_batch(crawler, batch)
                _note(answers, batch, found)
            refusals += found
            progress(len(batch))
    finally:
        await crawler.close()
    return refusals


async def _ask_batch(crawler: Crawler, batch: Sequence[Sample]) -> list[Refusal]:
    """Refusals of one batch, in its order; who was not asked or did not answer gets further chances."""
    refused: dict[Sample, Refusal | None] = {}
    waiting = list(dict.fromkeys(batch))
    for number in range(_PASSES):
        if number:
            await asyncio.sleep(crawler.config.backoff)
            crawler.forget_closed()
        crawler.start_unit()
        answers = await asyncio.gather(*(_ask(crawler, *sample) for sample in waiting))
        refused |= zip(waiting, answers, strict=True)
        waiting = [
            sample
            for sample, refusal in zip(waiting, answers, strict=True)
            if refusal is not None and not (refusal.asked and refusal.reached)
        ]
    return [refusal for sample in batch if (refusal := refused[sample]) is not None]


async def _ask(crawler: Crawler, key: str, uri: str) -> Refusal | None:
    answer = await crawler.fetch(uri, method="HEAD")
    if answer.reason is None or answer.status in _NO_HEAD:
        # Without HEAD, the site's files have said yes.
        return None
    return Refusal(key, uri, answer.reason.value, answer.detail, answer.asked, answer.reached)


def _recall(answers: Folder | None, batch: Sequence[Sample]) -> list[Refusal] | None:
    """The answers of a batch that an earlier run got, unless something in it was left unknown or they are too old."""
    if answers is None or not answers.exists(_name(batch)):
        return None
    noted: dict[str, Any] = json.loads(answers.read(_name(batch)))
    if time.time() - noted["time"] > _BELIEVED:
        return None
    found = [Refusal(*row) for row in noted["refusals"]]
    return found if all(refusal.asked for refusal in found) else None


def _note(answers: Folder | None, batch: Sequence[Sample], found: Sequence[Refusal]) -> None:
    if answers is not None:
        noted = {"time": time.time(), "refusals": [astuple(refusal) for refusal in found]}
        answers.write(_name(batch), json.dumps(noted).encode())


def _name(batch: Sequence[Sample]) -> str:
    return hashlib.sha256(json.dumps(batch).encode()).hexdigest()[:16] + ".json"


def write_exclusions(path: str, found: Sequence[Refusal]) -> None:
    """Write the list as parquet with columns key, uri, reason, detail: what `--exclude` of export and training takes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("key", "uri", "reason", "detail")
    schema = pa.schema([(name, pa.string()) for name in names])
    columns = {name: [getattr(one, name) for one in found] for name in names}
    folder, _, name = path.rpartition("/")
    with Folder(folder or ".").writer(name) as stream:
        pq.write_table(pa.table(columns, schema), stream, compression="zstd")
