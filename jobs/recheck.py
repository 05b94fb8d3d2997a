"""Ask every site again whether its pictures may be used, and list those that may not; give the list to `--exclude`.

A picture that is gone, forbidden now, or whose site cannot be reached is listed.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from handface.pipeline.fetch.config import HttpConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to ask about."""

    folder: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of parts, of a crawl or of annotate."""
    contact: str
    """E-mail address or web page where site owners reach you."""
    output: str = "excluded.parquet"
    """The list: columns key, uri, reason, detail."""
    keep_unreachable: bool = False
    """Do not list pictures whose site cannot be reached now."""
    http: HttpConfig = field(default_factory=HttpConfig)


def run(config: Config) -> int:
    """Ask and write. Returns 0."""
    from handface.jobs.shared.progress import Progress
    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.crawl.recheck import kept_samples, recheck, write_exclusions
    from handface.pipeline.fetch.config import user_agent

    http = replace(config.http, user_agent=user_agent(config.contact))
    samples = list(kept_samples(absolute(folder) for folder in config.folder))
    with Progress("rechecking", len(samples)) as progress:
        found = recheck(samples, http, keep_unreachable=config.keep_unreachable, progress=progress.advance)
    write_exclusions(config.output, found)
    reasons = Counter(one.reason for one in found)
    listed = ", ".join(f"{name} {count:,}" for name, count in reasons.most_common())
    print(f"{len(samples):,} pictures from the web, {len(found):,} to exclude{': ' + listed if listed else ''}")
    print(f"wrote {config.output}")
    return 0


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("recheck"))
