"""The crawl's only stage: a unit's URLs fetched side by side, each image checked and packed as it arrives, pages read for links."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from handface.pipeline.contract.exclusion import Exclusion
from handface.pipeline.contract.images.picture import RejectedImage, sniff
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Packed, Record
from handface.pipeline.engine.spool import Spool
from handface.pipeline.engine.stage import Stage, reject_failed
from handface.pipeline.fetch.aside import Aside, TooSlowError
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.network.url import owner_of
from handface.pipeline.fetch.original import KeepConfig, is_quick, make_original, provenance
from handface.pipeline.fetch.pages.links import PageLinks, read_page
from handface.pipeline.fetch.pages.sitemap import MAX_BYTES, BadSitemapError, read_sitemap
from handface.pipeline.fetch.pages.tags import PageTooSlowError

if TYPE_CHECKING:
    from handface.pipeline.fetch.crawler import Crawler, Fetched

ROLE, DEPTH, SITE, HOPS = "crawl_role", "crawl_depth", "crawl_site", "crawl_hops"  # columns the crawl keeps for itself
_OWN = (ROLE, DEPTH, SITE, HOPS)
# Pages and sitemaps have limits of their own below this one.
_READ_SECONDS, _DECODE_SECONDS = 60.0, 60.0


@dataclass(frozen=True)
class LinkConfig:
    """What is followed from seed pages and sitemaps."""

    depth: int = 0
    """Links followed from a seed page to further pages, breadth first; 0 reads the seed pages alone."""
    scope: Literal["site", "list"] = "site"
    """Pages to follow: of the seed's own site (its host and hosts below it), or of the hosts in `allow`."""
    allow: tuple[str, ...] = ()
    """Hosts (and hosts below them) whose pages are followed with `scope list`."""
    max_links: int = 500
    """Pictures, and pages, taken from one page or sitemap at most; sitemaps are allowed 100 times as many."""


class CrawlStage(Stage):
    """Fetches, checks and packs originals. Hosts, connections and consent are remembered from unit to unit."""

    name = "crawl"
    # 2: another way to resize
    version = 2
    # hosts have their own, and a unit may wait for them for hours
    limit = None
    writes = ("packed", "sha256", "original_size", "evidence", "found")

    def __init__(
        self, http: HttpConfig, keep: KeepConfig, links: LinkConfig, day: str, exclude: tuple[str, ...] = ()
    ) -> None:
        self.http, self.keep, self.links, self.day, self.exclude = http, keep, links, day, exclude
        self._crawler: Crawler | None = None

    def setup(self) -> None:
        """Read the lists of what must stay out and start the event loop that lives as long as the worker."""
        self._excluded = [Exclusion.read(uri) for uri in self.exclude]
        self._runner = asyncio.Runner()
        self._aside = Aside()

    def start_unit(self) -> None:
        """Give hosts a fresh time budget, and the unit's pictures a place to wait."""
        self._spool = Spool()
        if self._crawler is not None:
            self._crawler.start_unit()

    def __call__(self, batch: Sequence[Record]) -> None:
        """Fetch a whole unit."""
        try:
            self._runner.run(self._fetch_all(batch))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    def host_waits(self) -> dict[str, float]:
        """{host: seconds} that requests have waited for a host's turn since the last call."""
        return self._crawler.take_waits() if self._crawler is not None else {}

    def close(self) -> None:
        """Close connections and the event loop."""
        if self._crawler is not None:
            self._runner.run(self._crawler.close())
        self._runner.close()
        self._aside.close()

    async def _fetch_all(self, batch: Sequence[Record]) -> None:
        if self._crawler is None:
            from handface.pipeline.fetch.crawler import Crawler

            self._crawler = Crawler(self.http, stay=True)
        async with asyncio.TaskGroup() as tasks:
            for record in batch:
                tasks.create_task(self._guarded(self._crawler, record))

    async def _guarded(self, crawler: Crawler, record: Record) -> None:
        """The engine's guard, for inputs that run side by side: an error ends its own input."""
        try:
            await self._one(crawler, record)
        except Exception as error:
            reject_failed(record, error)

    async def _one(self, crawler: Crawler, record: Record) -> None:
        item = record.item
        if listed := self._listed_by(item.uri, set()):  # before anything is asked of the site
            return record.reject(Reason.EXCLUDED, f"named by {listed}")
        role = item.column(ROLE) or "image"
        answer = await crawler.fetch(
            item.uri, "image" if role == "image" else "page", MAX_BYTES if role == "sitemap" else None
        )
        record.evidence = dict(answer.evidence)
        if answer.reason is not None:
            record.reject(answer.reason, answer.detail)
            if answer.location is not None:
                record.found = self._moved(item, answer.location)
        elif role == "image" or sniff((answer.data or b"")[:64]):
            await self._keep_image(record, answer)
        elif role == "sitemap":
            await self._read_sitemap(record, answer)
        else:
            await self._read_page(record, answer)
        return None

    def _listed_by(self, uri: str, sha256: set[str]) -> str | None:
        """The first list that names an address or checksum. Perceptual hashes need pixels: `annotate` and `export` compare them."""
        return next((listed.uri for listed in self._excluded if listed.names(uri, sha256, 0)), None)

    async def _keep_image(self, record: Record, answer: Fetched) -> None:
        assert answer.data is not None
        try:
            if is_quick(answer.data, self.keep):
                original = make_original(answer.data, self.keep, consent=self.http.consent)
            else:
                consent = self.http.consent
                original = await self._aside.run(
                    _DECODE_SECONDS, make_original, answer.data, self.keep, consent=consent
                )
        except RejectedImage as refused:
            return record.reject(refused.reason, refused.detail)
        except TooSlowError as error:
            return record.reject(Reason.UNREADABLE, f"decoding: {error}")
        untouched = original.data == answer.data
        record.sha256 = original.sha256 if untouched else hashlib.sha256(answer.data).hexdigest()
        record.original_size = original.width, original.height
        record.evidence |= original.found
        if listed := self._listed_by(answer.url, {record.sha256, original.sha256}):
            return record.reject(Reason.EXCLUDED, f"named by {listed}")
        columns = {name: value for name, value in record.item.columns if name not in _OWN}
        columns.setdefault("licence", columns.pop("license", ""))
        known = {"url": record.item.origin, "fetched_at": self.day, "original_sha256": record.sha256}
        fields = {name: value for name, value in (columns | known).items() if value}
        blobs = {original.extension: original.data, "json": provenance(original, fields, record.evidence)}
        record.packed = Packed(original.key, {name: self._spool.put(data) for name, data in blobs.items()})
        return None

    def _moved(self, item: SourceItem, location: str) -> list[SourceItem]:
        """The redirect's target as an input of the next round, where its host's owner asks for it."""
        hops = int(item.column(HOPS) or 0) + 1
        if hops > self.http.max_redirects:
            return []
        columns = dict(item.columns) | {HOPS: str(hops)}
        columns.setdefault("moved_from", item.uri)
        return [replace(item, uri=location, columns=tuple(sorted(columns.items())))]

    async def _read_page(self, record: Record, answer: Fetched) -> None:
        assert answer.data is not None
        try:
            links = await self._aside.run(_READ_SECONDS, read_page, answer.data, answer.url)
        except (PageTooSlowError, TooSlowError) as error:
            return record.reject(Reason.UNREADABLE, f"page: {error}")
        if self.http.consent and links.refusal:
            record.evidence["decision"] = f"refused: {links.refusal}"
            return record.reject(Reason.OPTOUT, links.refusal)
        site = record.item.column(SITE) or owner_of(record.item.uri) or ""
        depth = int(record.item.column(DEPTH) or 0)
        pages = [url for url in links.pages if self._in_scope(url, site)] if depth < self.links.depth else []
        most = self.links.max_links
        record.found = list(self._picture_items(links, answer.url, most))
        record.found += [_item(url, "page", **{DEPTH: str(depth + 1), SITE: site}) for url in pages[:most]]
        return record.reject(Reason.PAGE, f"{len(links.images)} pictures, {len(pages)} pages to follow")

    @staticmethod
    def _picture_items(links: PageLinks, page: str, most: int) -> Iterator[SourceItem]:
        extra = {"page": page} | ({"licence": links.licence} if links.licence else {})
        yield from (_item(url, "image", **extra) for url in links.images[:most])

    async def _read_sitemap(self, record: Record, answer: Fetched) -> None:
        assert answer.data is not None
        try:
            found = await self._aside.run(_READ_SECONDS, read_sitemap, answer.data)
        except (BadSitemapError, TooSlowError) as error:
            return record.reject(Reason.UNREADABLE, f"sitemap: {error}")
        site = record.item.column(SITE) or owner_of(record.item.uri) or ""
        depth = int(record.item.column(DEPTH) or 0)
        most = self.links.max_links * 100
        for url, page, licence in found.images[:most]:
            record.found.append(_item(url, "image", page=page, **({"licence": licence} if licence else {})))
        pages = [url for url in found.pages if self._in_scope(url, site)]
        record.found += [_item(url, "page", **{DEPTH: "0", SITE: site}) for url in pages[:most]]
        if depth < 2:  # an index of indexes is against the protocol
            record.found += [_item(url, "sitemap", **{DEPTH: str(depth + 1), SITE: site}) for url in found.sitemaps]
        counts = f"{len(found.images)} pictures, {len(pages)} pages, {len(found.sitemaps)} sitemaps"
        return record.reject(Reason.PAGE, counts)

    def _in_scope(self, url: str, site: str) -> bool:
        host = owner_of(url)
        hosts = (site,) if self.links.scope == "site" else self.links.allow
        return host is not None and any(host == one or host.endswith(f".{one}") for one in hosts)


def _item(uri: str, role: str, **columns: str) -> SourceItem:
    """An input of a later round."""
    return SourceItem(uri, columns=tuple(sorted((columns | {ROLE: role}).items())))
