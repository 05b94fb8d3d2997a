"""A server that nobody may reach counts its connections, over every verb that takes an address."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from handface.jobs.cli import main
from handface.predict.inputs import InputError, PhotoReader, list_inputs
from tests.pipeline.images import encode, photo


class Counter:
    """Listens on loopback and counts who connects; answers nothing."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                connection.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def nobody() -> Iterator[Counter]:
    counter = Counter()
    yield counter
    counter.close()


def addresses(port: int, name: str) -> list[str]:
    """Ways to write the same forbidden place."""
    there = f"127.0.0.1:{port}/{name}"
    plain = [
        f"http://{there}",
        f"HTTP://{there}",
        f"https://{there}",
        f"http://localhost:{port}/{name}",
        f"http://2130706433:{port}/{name}",
    ]
    chained = [f"{word}::http://{there}" for word in ("simplecache", "filecache", "blockcache", "SimpleCache")]
    chained += [f"zip://{name}::http://{there}", f"tar://{name}::http://{there}", f"memory://x::http://{there}"]
    others = [
        f"{scheme}://{there}"
        for scheme in ("ftp", "ftps", "sftp", "webhdfs", "rtsp", "rtmp", "tcp", "jupyter", "smb", "github")
    ]
    return [*plain, *chained, *others]


def test_the_server_counts(nobody):
    with socket.create_connection(("127.0.0.1", nobody.port)) as one:
        one.recv(1)
    assert nobody.connections == 1
    nobody.connections = 0


NAMES = ["a.jpg", "clip.mp4", "urls.csv", "urls.csv.gz", "urls.parquet", "shard.tar", "folder"]


@pytest.mark.parametrize("name", NAMES)
def test_inputs_named_by_the_user(nobody, name):
    read = PhotoReader()
    for address in addresses(nobody.port, name):
        for item in list_inputs([address]):
            with pytest.raises((InputError, ValueError, OSError)):
                read(item.item)
    assert nobody.connections == 0


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl", "parquet"])
def test_rows_of_lists(nobody, kind, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [address for name in ("a.jpg", "clip.mp4", "shard.tar") for address in addresses(nobody.port, name)]
    path = tmp_path / f"urls.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"url": rows}), path)
    else:
        line = {"txt": "{}", "csv": "{}", "jsonl": '{{"url": "{}"}}'}[kind]
        path.write_text("url\n" * (kind == "csv") + "".join(line.format(row) + "\n" for row in rows))
    output = str(tmp_path / "out")
    contact = ("--contact", "me@example.org")
    assert main(["annotate", "--local", "--input", str(path), "--output", output, "--detect.segmenter", "off"]) in (
        0,
        1,
        2,
    )
    assert main(["crawl", "--local", "--input", str(path), "--output", output + "2", *contact]) in (0, 1, 2)
    assert main(["predict", str(path), "--output", output + "3"]) in (1, 2)
    assert nobody.connections == 0


# Each verb with the flags it cannot do without; THERE is the forbidden address.
VERBS = [
    ["annotate", "--local", "--input", "THERE", "--output", "OUT"],
    ["crawl", "--local", "--input", "THERE", "--output", "OUT", "--contact", "me@example.org"],
    ["crawl", "--local", "--seeds", "THERE", "--output", "OUT", "--contact", "me@example.org"],
    ["crawl", "--local", "--sitemaps", "THERE", "--output", "OUT", "--contact", "me@example.org"],
    ["crawl", "--local", "--input", "LIST", "--exclude", "THERE", "--output", "OUT", "--contact", "me@example.org"],
    ["recheck", "THERE", "--output", "OUT", "--contact", "me@example.org"],
    ["predict", "THERE", "--output", "OUT"],
    ["validate", "THERE"],
    ["stats", "THERE"],
    ["report", "THERE", "--output", "OUT"],
    ["dedupe", "THERE", "--output", "OUT"],
    ["export", "THERE", "--output", "OUT"],
    ["export", "PARTS", "--exclude", "THERE", "--output", "OUT"],
    ["takedown", "THERE", "--url", "http://h.example.com/a.jpg"],
    ["evaluate", "THERE"],
    ["train", "--train", "THERE", "--output", "OUT"],
    ["inspect-data", "THERE", "--output", "OUT"],
    ["decaf-to-shards", "THERE", "--output", "OUT"],
    ["priors", "THERE", "--output", "OUT.safetensors"],
    ["annotate", "--local", "--input", "LIST", "--dedupe.exclude", "THERE", "--output", "OUT"],
    ["annotate", "--local", "--input", "PHOTO", "--depth.depth-anything", "THERE", "--output", "OUT"],
    ["annotate", "--local", "--input", "PHOTO", "--fit.model", "THERE", "--output", "OUT"],
    ["export", "PARTS", "--coco", "THERE", "--output", "OUT"],
    ["takedown", "PARTS", "--verify", "--look-in", "THERE"],
    ["synthesize", "--count", "1", "--local", "--pictures.backgrounds", "THERE", "--output", "OUT"],
    ["train", "--train", "PARTS", "--exclude", "THERE", "--output", "OUT"],
    ["train", "--train", "PARTS", "--priors", "THERE", "--output", "OUT"],
    ["train", "--config", "THERE", "--output", "OUT"],
    ["predict", "PHOTO", "--model", "THERE", "--output", "OUT"],
    ["demo-page", "--model", "THERE"],
    ["bodies", "info", "THERE"],
    ["weights", "info", "THERE"],
]


@pytest.mark.parametrize("command", VERBS, ids=lambda command: " ".join(command[:3]))
def test_every_verb(nobody, command, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "urls.txt").write_text("http://h.invalid/a.jpg\n")
    (tmp_path / "photo.jpg").write_bytes(encode(photo()))
    slow = command[0] in ("train", "evaluate", "predict")
    for name in ("shard.tar",) if slow else ("urls.csv", "shard.tar"):
        # http, a chain, and another protocol.
        for address in addresses(nobody.port, name)[0:13:6] if not slow else addresses(nobody.port, name)[6:7]:
            out = str(tmp_path / "out")
            words = {"THERE": address, "OUT": out, "OUT.safetensors": f"{out}.safetensors", "LIST": "urls.txt"}
            words |= {"PARTS": str(tmp_path), "PHOTO": "photo.jpg"}
            with contextlib.suppress(SystemExit):
                assert main([words.get(word, word) for word in command]) in (0, 1, 2)
    assert nobody.connections == 0
