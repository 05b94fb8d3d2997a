"""An S3 server of the test's own, on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen


@contextmanager
def s3_server() -> Iterator[str]:
    """Address of an empty server; all servers of a process share their memory, which is emptied first."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    try:
        urlopen(Request(f"{address}/moto-api/reset", method="POST"), timeout=30).close()
        yield address
    finally:
        server.stop()
