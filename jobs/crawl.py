"""Fetch images from lists of URLs, seed pages, sitemaps and open collections: politely, safely, every URL accounted for.

robots.txt, ai.txt, TDMRep and opt-out headers are asked and obeyed; private addresses are refused; each host has one worker.
Run the same command again to continue a run that was stopped. `handface annotate --input OUTPUT` takes the result.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from handface.jobs.shared.units import one_writer
from handface.pipeline.contract.config import Count
from handface.pipeline.crawl.rounds import Crawl, CrawlConfig

if TYPE_CHECKING:
    from handface.pipeline.contract.inputs import SourceItem
    from handface.pipeline.sources import Notes


@dataclass(frozen=True, kw_only=True)
class Config(CrawlConfig):
    """What to fetch, where to put it, and how to behave."""

    output: str
    """Folder for the rounds and their parts: a path or an fsspec URI. Given an earlier crawl's folder, its rest is done."""
    contact: str
    """E-mail address or web page where site owners reach you; part of the User-Agent of every request."""
    input: tuple[str, ...] = ()
    """Lists of image URLs (txt, csv, tsv, jsonl, parquet; also gzipped); extra columns travel along."""
    seeds: tuple[str, ...] = ()
    """Pages to start from: their pictures (img, srcset, data-src, og:image) are fetched, and links to the depth of --links."""
    sitemaps: tuple[str, ...] = ()
    """Sitemaps or indexes of sitemaps: their pictures and pages are fetched."""
    commons: tuple[str, ...] = ()
    """Searches of Wikimedia Commons: `hand on face`. Licence, author and page are kept."""
    openverse: tuple[str, ...] = ()
    """Searches of Openverse, openly licensed pictures of many collections."""
    per_query: Count = 500
    """Pictures taken per search of a collection."""
    retry_failed: str = ""
    """Of a finished crawl: ask again only for URLs that ended with these reasons, e.g. `dns,timeout`."""
    workers: int = 0
    """Worker processes; 0 is one per CPU (of the cluster that RAY_ADDRESS names)."""
    local: bool = False
    """Work in this process, one unit after the other, without Ray."""
    check: bool = False
    """Read the lists, say what they hold, what is wrong with them and what the crawl would need; ask no site, write nothing."""
    skip_problems: bool = False
    """Go on without lists and rows that cannot be read; they are counted as inputs that were turned away."""


@one_writer
def run(config: Config) -> int:
    """Crawl round after round, then write `urls.parquet`: a row per URL. Returns 0, or 1 if some units failed."""
    from handface.jobs.shared.progress import Progress
    from handface.jobs.shared.units import run_units
    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.crawl.outcomes import write_outcomes
    from handface.pipeline.sources.check import Listing

    crawl, number, failed = _crawl(config), 0, 0
    if config.check:
        return _check(crawl, config)
    listing = Listing(lambda notes: _listing(crawl, config, notes), config.skip_problems)
    retry = config.retry_failed.split(",") if config.retry_failed else ()
    runs = crawl.runs(lambda: listing, retry, lambda inputs: progress.advance(inputs))
    while not failed:
        with Progress(f"listing round {number}") as progress:
            ready = next(runs, None)
        if ready is None:
            break
        if number == 0:
            listing.finish(ready.task.output.uri)
        failed = run_units(ready, f"crawling round {number}", workers=config.workers, local=config.local)
        number += 1
    counts = write_outcomes(crawl)
    kept = counts.pop("kept", 0)
    others = "".join(f", {reason} {n:,}" for reason, n in counts.most_common())
    print(f"{kept:,} of {kept + counts.total():,} URLs kept{others}")
    print(f"a row per URL: {absolute(config.output)}/urls.parquet")
    return failed


def _crawl(config: Config) -> Crawl:
    from handface.pipeline.contract.exclusion import digest
    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.fetch.config import user_agent

    if not (config.input or config.seeds or config.sitemaps or config.commons or config.openverse):
        raise ValueError("nothing to fetch: give --input, --seeds, --sitemaps, --commons or --openverse")
    settings = CrawlConfig.of(config)
    exclude = tuple(absolute(uri) for uri in config.exclude)
    settings = replace(
        settings,
        http=replace(settings.http, user_agent=user_agent(config.contact)),
        exclude=exclude,
        exclude_digest=digest(exclude),
    )
    names = ("seeds", "sitemaps", "commons", "openverse")
    inputs = [absolute(uri) for uri in config.input]
    inputs += [f"{name}:{value}" for name in names for value in getattr(config, name)]
    return Crawl(absolute(config.output), settings, tuple(inputs))


def _listing(crawl: Crawl, config: Config, notes: Notes) -> Iterator[SourceItem]:
    """The inputs of round 0."""
    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.crawl.rounds import seeds
    from handface.pipeline.fetch.pages.collections import search_commons, search_openverse
    from handface.pipeline.sources import open_source

    yield from open_source([absolute(uri) for uri in config.input], crawl.config.sources, notes)
    yield from seeds(config.seeds, "page")
    yield from seeds(config.sitemaps, "sitemap")
    for query in config.commons:
        yield from search_commons(query, crawl.config.http, config.per_query)
    for query in config.openverse:
        yield from search_openverse(query, crawl.config.http, config.per_query)


def _check(crawl: Crawl, config: Config) -> int:
    """The lists alone: asking collections and reading seed pages would be crawling."""
    from handface.jobs.shared.listing import print_listing
    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.sources import open_source
    from handface.pipeline.sources.check import Listing

    begun = crawl.check()
    inputs = [absolute(uri) for uri in config.input]
    listing = Listing(
        lambda notes: open_source(inputs, crawl.config.sources, notes), config.skip_problems or not config.input
    )
    if inputs and (code := print_listing(listing)):
        return code
    for name in ("seeds", "sitemaps", "commons", "openverse"):
        if values := getattr(config, name):
            print(f"{name}: {len(values)}, read when the crawl runs")
    http = crawl.config.http
    largest = max(listing.hosts.values(), default=0)
    print(
        f"the largest host takes at least {largest * http.host_interval / 3600:,.2f} hours, one request each {http.host_interval:g} s"
    )
    under_way, waiting = (count * http.max_bytes >> 20 for count in (http.concurrency, config.unit_size))
    print(
        f"memory of a worker: {http.concurrency} bodies at once, {under_way:,} MB if each had the largest size; "
        f"on its disk (TMPDIR) {waiting:,} MB, {config.unit_size} of them"
    )
    if begun is not None:
        print(f"would go on with the crawl in {config.output}; wrote nothing")
    return 0


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("crawl"))
