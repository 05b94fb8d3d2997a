"""Which addresses are opened, by whom, and which never are."""

from __future__ import annotations

import pytest

from handface.pipeline.contract.names.addresses import (
    AddressRefusedError,
    Kind,
    UnknownSchemeError,
    local_path,
    may_open,
    open_place,
)


@pytest.mark.parametrize(
    ("address", "kind", "opened"),
    [
        ("http://h.example.com/a.jpg", Kind.WEB, "http://h.example.com/a.jpg"),
        ("HTTPS://h.example.com/A.jpg", Kind.WEB, "https://h.example.com/A.jpg"),
        ("http://[::1]/a::b.jpg", Kind.WEB, "http://[::1]/a::b.jpg"),
        ("s3://bucket/a.jpg", Kind.STORAGE, "s3://bucket/a.jpg"),
        ("GS://bucket/A.jpg", Kind.STORAGE, "gs://bucket/A.jpg"),
        ("photos/a.jpg", Kind.LOCAL, "photos/a.jpg"),
        ("/photos/a.jpg", Kind.LOCAL, "/photos/a.jpg"),
        ("file:///photos/a.jpg", Kind.LOCAL, "/photos/a.jpg"),
        ("a:b.mp4", Kind.LOCAL, "a:b.mp4"),
        ("hdfs://cluster/a.parquet", Kind.STORAGE, "hdfs://cluster/a.parquet"),
    ],
)
def test_what_the_user_names(address, kind, opened):
    place = may_open(address)
    assert (place.kind, place.address) == (kind, opened)


@pytest.mark.parametrize(
    "address",
    [
        "simplecache::http://127.0.0.1/a.jpg",
        "filecache::http://127.0.0.1/a.jpg",
        "blockcache::http://127.0.0.1/a.jpg",
        "SimpleCache::HTTP://127.0.0.1/a.jpg",
        "zip://a.jpg::http://127.0.0.1/a.zip",
        "tar://x::s3://bucket/a.tar",
        "s3://bucket/a::http://127.0.0.1/b",
        "ftp::ftp://127.0.0.1/x.jpg",
        "simplecache::file:///etc/passwd",
        "ftp://127.0.0.1/x.jpg",
        "sftp://127.0.0.1/x.jpg",
        "webhdfs://127.0.0.1/x.jpg",
        "github://owner:repo@/x.jpg",
        "rtsp://127.0.0.1/x.mp4",
        "local:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
    ],
)
def test_what_nobody_may_name(address):
    for listing in (None, "lists/urls.csv", "s3://bucket/urls.csv"):
        with pytest.raises(AddressRefusedError):
            may_open(address, listing=listing)
    with pytest.raises(AddressRefusedError):
        local_path(address)


def test_rows_name_files_below_their_list_and_nowhere_else(tmp_path):
    listing = str(tmp_path / "lists" / "urls.csv")
    inside = str(tmp_path / "lists" / "a" / "b.jpg")
    for row in ("a/b.jpg", "./a/b.jpg", "a/../a/b.jpg", inside, f"file://{inside}"):
        assert may_open(row, listing=listing).address == inside
    assert may_open("../images/b.jpg", listing=listing).address == str(tmp_path / "images" / "b.jpg")
    for row in (
        "../../b.jpg",
        "/etc/passwd",
        "file:///etc/passwd",
        f"{tmp_path}/lists-of-others/b.jpg",
        "a/../../../b.jpg",
    ):
        with pytest.raises(AddressRefusedError, match="outside the list's folder"):
            may_open(row, listing=listing)
        assert may_open(row, listing=listing, anywhere=True).kind is Kind.LOCAL


def test_rows_of_lists_that_lie_elsewhere():
    assert may_open("a.jpg", listing="s3://bucket/x/urls.csv").address == "s3://bucket/x/a.jpg"
    place = may_open("a.jpg", listing="https://h.example.com/x/urls.csv")
    assert (place.kind, place.address) == (Kind.WEB, "https://h.example.com/x/a.jpg")
    for listing in ("s3://bucket/urls.csv", "https://h.example.com/urls.csv"):
        with pytest.raises(AddressRefusedError):
            may_open("/etc/passwd", listing=listing)
        assert may_open("/photos/a.jpg", listing=listing, anywhere=True).kind is Kind.LOCAL
    with pytest.raises(UnknownSchemeError):
        may_open("hdfs://other/a.jpg", listing="urls.csv")


def test_a_file_whose_name_looks_like_a_protocol_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b.mp4").write_bytes(b"video")
    assert local_path("a:b.mp4") == str(tmp_path / "a:b.mp4")
    with open_place(may_open("a:b.mp4")) as stream:
        assert stream.read() == b"video"
    with pytest.raises(AddressRefusedError):
        open_place(may_open("http://h.example.com/"))
    with pytest.raises(AddressRefusedError):
        local_path("http://127.0.0.1/clip.mp4")


def test_a_list_in_a_folder_of_the_root_does_not_name_the_whole_machine():
    assert may_open("a.jpg", listing="/lists/urls.csv").address == "/lists/a.jpg"
    for row in ("../etc/passwd", "../lists2/a.jpg"):
        with pytest.raises(AddressRefusedError, match="outside"):
            may_open(row, listing="/lists/urls.csv")
