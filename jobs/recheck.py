"""Ask every site again whether its pictures may be used, and list those that may not; give the list to `--exclude`.

A picture that is gone, forbidden now, or whose site cannot be reached is listed. What was not asked, because its host failed or
had its time, is not: run the same command again for those.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import tyro

from handface.jobs.shared.outputs import OneFile
from handface.pipeline.fetch.config import HttpConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handface.pipeline.crawl.recheck import Refusal


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to ask about."""

    folder: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of parts, of a crawl or of annotate."""
    contact: str
    """E-mail address or web page where site owners reach you."""
    output: Annotated[str, OneFile()] = "excluded.parquet"
    """The list: columns key, uri, reason, detail."""
    keep_unreachable: bool = False
    """Do not list pictures whose site cannot be reached now."""
    http: HttpConfig = field(default_factory=HttpConfig)


def run(config: Config) -> int:
    """Ask and write. Returns 0, or 1 if the answer for some pictures is unknown, or a part was damaged and not asked for."""
    from handface.jobs.shared.progress import Progress
    from handface.pipeline.contract.damage import TABLES, Damage
    from handface.pipeline.contract.storage import Folder, absolute
    from handface.pipeline.crawl.recheck import kept_samples, recheck, write_exclusions
    from handface.pipeline.fetch.config import user_agent

    http = replace(config.http, user_agent=user_agent(config.contact))
    damage = Damage(TABLES)
    samples = list(kept_samples((absolute(folder) for folder in config.folder), damage))
    answers = Folder(f"{absolute(config.output)}.answers")
    with Progress("rechecking", len(samples)) as progress:
        found = recheck(
            samples, http, keep_unreachable=config.keep_unreachable, answers=answers, progress=progress.advance
        )
    write_exclusions(absolute(config.output), found.excluded)
    print(f"{len(samples):,} pictures from the web, {len(found.excluded):,} to exclude{_counts(found.excluded)}")
    print(f"wrote {config.output}")
    if found.unknown:
        print(f"{len(found.unknown):,} not asked, so neither listed nor cleared{_counts(found.unknown)}.")
        print("Run the same command again for these; the other answers are kept for a day.")
    return max(damage.report(), 1 if found.unknown else 0)


def _counts(refusals: Sequence[Refusal]) -> str:
    counts = Counter(refusal.reason for refusal in refusals)
    return "".join(f"{',' if i else ':'} {name} {n:,}" for i, (name, n) in enumerate(counts.most_common()))


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("recheck"))
