"""What `--check` shows of a listing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handface.counted import counted

if TYPE_CHECKING:
    from handface.pipeline.sources.check import Listing

_HOSTS_SHOWN = 5


def print_listing(listing: Listing) -> int:
    """Read a listing wholly and print rows, problems and hosts. Returns 0, or 2 where no plan could be made of it."""
    from handface.jobs.shared.progress import Progress
    from handface.pipeline.sources.check import ListingError

    listing.count_hosts = True
    code = 0
    with Progress("listing") as progress:
        try:
            for _ in listing:
                progress.advance(1)
        except ListingError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
    for line in listing.lines():
        print(line)
    if total := listing.hosts.total():
        print(f"{counted(len(listing.hosts), 'host')}; the largest:")
        for host, count in listing.hosts.most_common(_HOSTS_SHOWN):
            print(f"  {host}: {counted(count, 'input')}, {count / total:.0%}")
    return code
