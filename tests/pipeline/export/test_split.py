"""Splits in which what belongs together stays together, and the order."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.engine.record import Record
from handface.pipeline.export.catalogue import host_of
from handface.pipeline.export.release import release
from handface.pipeline.export.split import assign_splits, shuffled, split_warnings
from tests.pipeline.export.releases import CONFIG, index, record, write_parts
from tests.pipeline.toy_stages import toy_sample


def keys(count: int) -> np.ndarray:
    return np.array([f"{k:04x}" for k in range(count)], "S16")


def numbers(values: list) -> np.ndarray:
    """Equal values get equal numbers, None 0."""
    known = {value: place + 1 for place, value in enumerate(dict.fromkeys(value for value in values if value))}
    return np.array([known.get(value, 0) for value in values], np.uint64)


GROUPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["p", "q", None]), st.integers(0, 3)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(GROUPS, st.integers(0, 5))
def test_what_belongs_together_stays_together(groups: list, seed: int) -> None:
    columns = [list(column) for column in zip(*groups, strict=True)]
    columns[2] = [f"family {family}" for family in columns[2]]
    shared = [numbers(columns[0]), numbers(columns[1]), np.array(columns[2], "S16")]
    splits, largest = assign_splits(keys(len(groups)), shared, {"train": 0.5, "test": 0.5}, seed)
    for column in columns:
        seen: dict[str, int] = {}
        for value, split in zip(column, splits.tolist(), strict=True):
            if value:
                assert seen.setdefault(value, split) == split
    assert largest >= max(column.count(value) for column in columns for value in column if value)


def video(name: str, host: str, member: str | None, number: int) -> Record:
    made = record(number, host)
    made.item = dataclasses.replace(made.item, uri=name, member=member)
    return made


def test_frames_of_a_video_stay_together_and_members_of_a_tar_need_not(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, splits={"train": 0.5, "test": 0.5})
    frames = [video("/x/video.mp4", "a", f"t={k}.000", k) for k in range(40)]
    made = release([write_parts(tmp_path / "frames", frames)], str(tmp_path / "a"), config)
    assert sorted(made.samples.values()) == [0, 40]
    members = [video("/x/all.tar", "a", f"{k}.jpg", k) for k in range(40)]
    made = release([write_parts(tmp_path / "members", members)], str(tmp_path / "b"), config)
    assert min(made.samples.values()) > 5


def test_a_platforms_pictures_part_by_author_and_the_share_is_said(tmp_path: Path, caplog) -> None:
    records = [record(n % 100, "upload.platform.org", phash=0, author=f"author {n % 37}") for n in range(150)]
    for number, one in enumerate(records):
        one.sample = toy_sample(number, one.item.uri)
        one.sha256 = f"{number:064x}"
    parts = write_parts(tmp_path / "parts", records)
    config = dataclasses.replace(CONFIG, splits={"train": 0.9, "validation": 0.1}, shard_samples=1000)
    made = release([parts], str(tmp_path / "host"), config)
    assert sorted(made.samples.values()) == [0, 150]
    assert "of 150 samples" in caplog.text and "--group-by author" in caplog.text
    caplog.clear()
    by_author = dataclasses.replace(config, splits={"train": 0.5, "validation": 0.5}, group_by="author")
    release([parts], str(tmp_path / "author"), by_author)
    splits: dict[str, set[str]] = {}
    for row in index(tmp_path / "author"):
        splits.setdefault(row["author"], set()).add(row["split"])
    assert len(splits) == 37 and all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == {"train", "validation"}


def test_only_splits_that_are_off_their_share_are_said() -> None:
    shares = {"train": 0.9, "test": 0.1}
    assert split_warnings({"train": 890, "test": 110}, shares, 10, "host") == []
    (few,) = split_warnings({"train": 13, "test": 0}, shares, 3, "host")
    assert "split test has none of the 13 samples, 10% was asked for" in few and "--splits.test 0" in few
    assert split_warnings({"train": 12, "test": 1}, shares, 3, "host") == []
    assert split_warnings({"train": 13, "test": 0}, {"train": 1.0, "test": 0.0}, 3, "host") == []
    (one, other) = split_warnings({"train": 0, "test": 1000}, shares, 700, "author")
    assert "train has 0 of 1,000 samples (0%), 90% was asked for" in one and "has 700" in other


@settings(max_examples=30, deadline=None)
@given(st.sets(st.text("0123456789abcdef", min_size=4, max_size=4), min_size=1, max_size=40), st.integers(0, 9))
def test_the_order_depends_on_seed_and_keys_alone(names: set[str], seed: int) -> None:
    one = np.array(sorted(names), "S16")
    two = one[::-1]
    assert one[shuffled(one, seed)].tolist() == two[shuffled(two, seed)].tolist()
    expected = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:order:{name}".encode()).digest())
    assert [name.decode() for name in one[shuffled(one, seed)].tolist()] == expected


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://WWW.Example.org:8080/a", "example.org"),
        ("http://user@b.net/x", "b.net"),
        ("http://[::1/x", None),
        ("/data/a.jpg", None),
    ],
)
def test_hosts(uri: str, host: str | None) -> None:
    assert host_of(uri) == host
