"""An S3 server of the test's own, on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch
from urllib.request import Request, urlopen

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


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


@contextmanager
def s3_bucket() -> Iterator[str]:
    """An empty bucket, `s3://bucket`, that everything in this process and its children finds through the environment."""
    import fsspec

    with s3_server() as address, patch.dict(os.environ, KEYS | {"AWS_ENDPOINT_URL": address}):
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield "s3://bucket"
        fsspec.get_filesystem_class("s3").clear_instance_cache()
