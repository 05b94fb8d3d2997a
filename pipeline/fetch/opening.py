"""Opens what a user or a list names, whatever it is: files and storage directly, web addresses only through the fenced fetch."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import IO

from handface.pipeline.contract.names.addresses import Kind, may_open, open_place
from handface.pipeline.fetch.config import HttpConfig

MAX_DOWNLOAD = 256 << 20  # bytes of a list at a web address


def open_remote(address: str, http: HttpConfig = HttpConfig(), max_bytes: int = MAX_DOWNLOAD) -> IO[bytes]:
    """Open an address that the user gave for reading.

    Args:
        address: A path, storage URI or web address; a web address is asked for with robots.txt, caps and checked addresses.
        http: How the web is asked.
        max_bytes: Of a web address.

    Raises:
        AddressRefusedError: Chained addresses and unknown schemes.
        FileNotFoundError: Nothing is there.
        OSError: It cannot be read; of a web address, with the reason in which the fetch ended.
    """
    place = may_open(address)
    if place.kind is not Kind.WEB:
        return open_place(place)
    from handface.pipeline.contract.inputs import Reason
    from handface.pipeline.fetch.crawler import FILE
    from handface.pipeline.fetch.network.http import Fetcher

    with Fetcher(replace(http, max_bytes=max_bytes)) as fetcher:
        (answer,) = fetcher.fetch([place.address], FILE)
    if answer.data is None:
        kind = FileNotFoundError if answer.reason is Reason.HTTP_404 else OSError
        raise kind(f"{address}: {answer.reason}: {answer.detail}")
    return io.BytesIO(answer.data)
