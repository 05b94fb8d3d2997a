import gzip
import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.fetch.network.http import HttpConfig, fetch_all
from handface.pipeline.stages.read import ReadConfig, ReadStage
from tests.pipeline.images import encode, photo

IMAGE = encode(photo())


class Handler(BaseHTTPRequestHandler):
    """A server that serves one picture and misbehaves on request."""

    agents: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.agents.append(self.headers["User-Agent"])
        name = self.path.strip("/")
        if name.isdigit():
            return self.answer(int(name), b"no")
        if name.startswith("hop"):
            left = int(name[3:])
            self.send_response(302)
            self.send_header("Location", f"/hop{left - 1}" if left > 1 else "/image.jpg")
            self.end_headers()
            return None
        if name == "slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(50):
                try:
                    self.wfile.write(b"\xff\xd8\xff")
                    self.wfile.flush()
                except OSError:
                    return None
                time.sleep(0.1)
        if name == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"half")
            return None
        if name == "shard.tar":
            return self.ranged()
        if name == "announced":
            return self.answer(200, b"", length=10**9)
        if name == "bomb":
            return self.answer(200, gzip.compress(b"\xff\xd8\xff" + bytes(5 << 20)), encoding="gzip")
        return self.answer(200, IMAGE)

    def answer(self, status: int, body: bytes, length: int | None = None, encoding: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.ranged(body=False)

    def ranged(self, body: bool = True) -> None:
        """As file servers do: parts of the file on request."""
        first, last = 0, len(IMAGE) - 1
        wanted = self.headers.get("Range")
        if wanted:
            begin, end = wanted.removeprefix("bytes=").split("-")
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(IMAGE)}")
        self.end_headers()
        if body:
            self.wfile.write(IMAGE[first : last + 1])

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def server():
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()


CONFIG = HttpConfig(
    max_bytes=1 << 20,
    timeout=1.0,
    max_redirects=3,
    user_agent="handface-test (me@example.org)",
    open_ranges=("127.0.0.0/8",),
    host_interval=0.0,
    attempts=1,
)


def read(*items: SourceItem, **config) -> list[Record]:
    stage = ReadStage(ReadConfig(http=CONFIG, **config))
    stage.setup()
    stage.start_unit()
    records = [Record(item) for item in items]
    stage(records)
    return records


@pytest.mark.parametrize(
    ("path", "reason", "detail"),
    [
        ("404", Reason.HTTP_404, "404"),
        ("503", Reason.HTTP_5XX, "503"),
        ("hop9", Reason.REDIRECTS, "redirects"),
        ("slow", Reason.TIMEOUT, "1 s"),
        ("cut", Reason.NETWORK, ""),
        ("announced", Reason.TOO_LARGE, "announced"),
        ("bomb", Reason.BOMB, "grew"),
    ],
)
def test_each_way_to_fail_has_its_reason(server, path, reason, detail):
    (answer,) = fetch_all([f"{server}/{path}"], CONFIG)
    assert answer.data is None and answer.reason is reason and detail in answer.detail


def test_answers_keep_their_order_and_redirects_are_followed(server):
    answers = fetch_all([f"{server}/{name}" for name in ("a.jpg", "404", "hop2", "b.jpg")], CONFIG)
    assert [answer.data for answer in answers] == [IMAGE, None, IMAGE, IMAGE]
    assert set(Handler.agents) == {CONFIG.user_agent}


def test_nobody_listening_and_no_url_at_all():
    refused, odd = fetch_all(["http://127.0.0.1:8009/x", "http://[bad"], CONFIG)
    assert refused.reason is Reason.NETWORK and odd.reason is Reason.BAD_URL


def test_files_tars_and_urls_are_read_and_hashed(server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    (tmp_path / "b.tar").write_bytes(b"\0" * 700 + IMAGE)
    items = [
        SourceItem(str(tmp_path / "a.jpg")),
        SourceItem(str(tmp_path / "b.tar"), "x.jpg", 700, len(IMAGE)),
        SourceItem(f"{server}/c.jpg"),
    ]
    for record in read(*items):
        assert record.data == IMAGE and record.sha256 == hashlib.sha256(IMAGE).hexdigest()


def test_local_failures_have_reasons(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(bytes(2000))
    items = [
        (SourceItem(str(tmp_path / "none.jpg")), Reason.NOT_FOUND),
        (SourceItem(str(tmp_path)), Reason.UNREADABLE),
        (SourceItem(str(tmp_path / "empty")), Reason.EMPTY),
        (SourceItem(str(tmp_path / "large")), Reason.TOO_LARGE),
        (SourceItem(str(tmp_path / "large"), "m.jpg", 1500, 900), Reason.CORRUPT),
        (SourceItem("gopher://a/b.jpg"), Reason.UNKNOWN_SCHEME),
        (SourceItem("row", problem=Reason.MISSING_COLUMN, detail="row 3"), Reason.MISSING_COLUMN),
    ]
    for record, (_, reason) in zip(read(*(item for item, _ in items), max_bytes=1000), items, strict=True):
        assert record.reason is reason and record.detail


def test_a_member_of_a_remote_tar_is_that_member_and_not_the_tar(server):
    (record,) = read(SourceItem(f"{server}/shard.tar", "x.jpg", 100, 50))
    assert record.data == IMAGE[100:150]


@pytest.mark.parametrize("member", ["t=x.jpg", "t=1.500", "t=1.5/a.jpg"])
def test_a_tar_member_may_be_called_like_a_video_frame(tmp_path, member):
    (tmp_path / "b.tar").write_bytes(IMAGE)
    (record,) = read(SourceItem(str(tmp_path / "b.tar"), member, 0, len(IMAGE)))
    assert record.data == IMAGE


def test_a_video_that_has_gone_is_a_reason(tmp_path):
    (record,) = read(SourceItem(str(tmp_path / "gone.mp4"), "t=1.000"))
    assert record.reason is Reason.UNREADABLE and "gone.mp4" in record.detail


def test_hosts_get_their_budget_afresh_with_each_unit(server):
    slow = HttpConfig(open_ranges=("127.0.0.0/8",), host_interval=0.1, host_seconds=0.45, consent=False)
    stage = ReadStage(ReadConfig(http=slow))
    stage.setup()
    for unit in range(4):
        stage.start_unit()
        records = [Record(SourceItem(f"{server}/{unit}-{i}.jpg")) for i in range(3)]
        stage(records)
        assert all(record.data == IMAGE for record in records)
    stage.close()


def test_what_nobody_may_name_is_refused_before_anything_is_opened():
    items = [
        SourceItem(uri) for uri in ("simplecache::http://127.0.0.1/a.jpg", "ftp::ftp://127.0.0.1/x.jpg", "s3://b/a::b")
    ]
    assert {record.reason for record in read(*items)} == {Reason.BAD_ADDRESS}
    (record,) = read(SourceItem("http://127.0.0.1/clip.mp4", "t=1.500"))
    assert record.reason is not None and "only local files" in record.detail
