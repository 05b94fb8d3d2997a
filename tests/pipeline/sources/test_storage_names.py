"""Patterns, folders and brackets on an object store: what a shell would have expanded on a disk."""

from __future__ import annotations

import fsspec
import pytest

from handface.pipeline.contract.shards import find_shards
from handface.pipeline.contract.storage import Folder
from handface.pipeline.sources import open_source


@pytest.fixture
def bucket(s3: str) -> str:
    store = fsspec.filesystem("s3")
    for name in ("photos [2023]/a.jpg", "photos [2023]/sub/b.JPG", "photos [2023]/.c.jpg", "photos [2023]/notes.md"):
        store.pipe_file(f"bucket/{name}", b"x")
    for number in range(2):
        store.pipe_file(f"bucket/lists/0{number}.txt", f"https://example.org/{number}.jpg\n".encode())
        store.pipe_file(f"bucket/parts [v1]/part-{number}.tar", b"x")
        store.pipe_file(f"bucket/parts [v1]/part-{number}.json", b"y")
    return s3


def test_listing_a_bucket(bucket: str) -> None:
    def names(argument: str) -> list[str]:
        items = list(open_source([f"{bucket}/{argument}"]))
        assert not any(item.problem for item in items)
        return [item.uri.removeprefix(f"{bucket}/") for item in items]

    assert names("photos [2023]") == ["photos [2023]/a.jpg", "photos [2023]/sub/b.JPG"]
    assert names("photos [2023]/*.jpg") == ["photos [2023]/a.jpg"]
    for argument in ("lists", "lists/*.txt", "lists/{00..01}.txt", "lists/{00,01}.txt"):
        assert names(argument) == ["https://example.org/0.jpg", "https://example.org/1.jpg"]
    (missing,) = open_source([f"{bucket}/nothing/*.tar"])
    assert missing.problem == "not_found" and "nothing matches" in missing.detail


def test_parts_in_a_folder_with_brackets(bucket: str) -> None:
    folder = f"{bucket}/parts [v1]"
    tars = [f"{folder}/part-{number}.tar" for number in range(2)]
    assert (
        find_shards([folder]) == find_shards([f"{folder}/*.tar"]) == find_shards([f"{folder}/part-{{0,1}}.tar"]) == tars
    )
    assert Folder(folder).read_many(["part-1.json", "part-0.tar"]) == {"part-1.json": b"y", "part-0.tar": b"x"}
