"""Results on an S3 server that drops, delays, cuts and refuses: whole, and byte for byte as without faults."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pytest

from handface.jobs import crawl as verb
from handface.pipeline.contract.storage import Folder
from handface.pipeline.fetch.config import HttpConfig
from tests.object_store import KEYS, s3_server
from tests.pipeline.fetch.server import Server
from tests.pipeline.images import encode, photo

SHARE = 0.12  # of requests that fail
HTTP = HttpConfig(timeout=5.0, host_interval=0.0, backoff=0.01, open_ranges=("127.0.0.0/8",))


@dataclass
class FaultyProxy:
    """Passes connections on to a server and harms some of them."""

    port: int
    chance: random.Random = field(default_factory=lambda: random.Random(20261128))
    harmed: int = 0
    on: bool = True

    def __enter__(self) -> FaultyProxy:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.own_port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            fault = self.chance.choice(_FAULTS) if self.on and self.chance.random() < SHARE else ""
            self.harmed += bool(fault)
            if fault == "drop":
                return
            if fault == "busy":
                client.recv(65536)
                client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            if fault == "delay":
                time.sleep(0.3)
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                threading.Thread(target=_copy, args=(client, server), daemon=True).start()
                # A cut answer: the request took effect, and the client does not know.
                _copy(server, client, most=120 if fault == "cut" else None)


_FAULTS = ("drop", "busy", "delay", "cut")


def _copy(source: socket.socket, target: socket.socket, most: int | None = None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data if most is None else data[:most])
            if most is not None:
                break
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A bucket behind the proxy."""
    with s3_server() as address, FaultyProxy(int(address.rpartition(":")[2])) as proxy:
        own = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.own_port}", "AWS_MAX_ATTEMPTS": "8"}
        for name, value in (KEYS | own).items():
            monkeypatch.setenv(name, value)
        proxy.on = False
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
        proxy.on = True
        yield proxy
        proxy.on = False
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def crawl(listing: Path, output: str) -> int:
    config = verb.Config(
        input=(str(listing),), output=output, contact="me@example.org", http=HTTP, local=True, unit_size=4, lane_units=1
    )
    return verb.run(config)


def files_of(output: str) -> dict[str, bytes]:
    """Parts and ledger, by name."""
    found = {}
    for folder in (output, f"{output}/round-00"):
        names = [name for name in Folder(folder).sizes() if name.startswith(("part-", "urls"))]
        found |= Folder(folder).read_many(names)
    return found


def test_a_crawl_to_storage_with_faults_leaves_what_a_calm_one_leaves(storage, tmp_path):
    with Server() as server:
        for i in range(16):
            server.files["127.0.0.1", f"/{i}.jpg"].append((200, {}, encode(photo(seed=i))))
        listing = tmp_path / "urls.csv"
        listing.write_text("url\n" + "".join(f"{server.url(f'/{i}.jpg')}\n" for i in range(16)))
        storage.on = False
        assert crawl(listing, "s3://bucket/calm") == 0
        storage.on = True
        until = time.monotonic() + 90
        code = 1
        while code and time.monotonic() < until:
            # Run the same command again, as the documentation says.
            with contextlib.suppress(OSError):
                code = crawl(listing, "s3://bucket/out")
        storage.on = False
    assert code == 0 and storage.harmed > 3
    assert files_of("s3://bucket/out") == files_of("s3://bucket/calm")
