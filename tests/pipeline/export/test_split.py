"""Splits in which what belongs together stays together, and the order."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.export.catalogue import host_of
from handface.pipeline.export.split import assign_splits, shuffled


def table(rows: list[tuple[str, str | None, str | None, str, str | None]]) -> pa.Table:
    names = ("key", "host", "member", "family", "identity")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    identities = [[("identity", value)] if value else None for value in columns.pop("identity")]
    return pa.table(
        {name: pa.array(values, pa.string()) for name, values in columns.items()}
        | {
            "uri": pa.array(["video.mp4"] * len(rows)),
            "columns": pa.array(identities, pa.map_(pa.string(), pa.string())),
        }
    )


GROUPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["p", "q", None]), st.integers(0, 3)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(GROUPS, st.integers(0, 5))
def test_what_belongs_together_stays_together(groups: list, seed: int) -> None:
    rows = [(f"{k:04x}", host, None, f"f{family}", person) for k, (host, person, family) in enumerate(groups)]
    splits = assign_splits(table(rows), {"train": 0.5, "test": 0.5}, seed, "identity")
    for column in (1, 3, 4):
        seen: dict[str, str] = {}
        for row, split in zip(rows, splits, strict=True):
            if row[column]:
                assert seen.setdefault(row[column], split) == split


def test_frames_of_a_video_stay_together_and_members_of_a_tar_need_not() -> None:
    frames = [(f"{k:04x}", None, f"t={k}.000", f"f{k}", None) for k in range(40)]
    assert len(set(assign_splits(table(frames), {"train": 0.5, "test": 0.5}, 0, "identity"))) == 1
    members = [(key, host, f"{key}.jpg", family, None) for key, host, _, family, _ in frames]
    assert len(set(assign_splits(table(members), {"train": 0.5, "test": 0.5}, 0, "identity"))) == 2


@settings(max_examples=30, deadline=None)
@given(st.sets(st.text("0123456789abcdef", min_size=4, max_size=4), min_size=1, max_size=40), st.integers(0, 9))
def test_the_order_depends_on_seed_and_keys_alone(keys: set[str], seed: int) -> None:
    one, two = sorted(keys), sorted(keys, reverse=True)
    assert [one[k] for k in shuffled(one, seed)] == [two[k] for k in shuffled(two, seed)]


@pytest.mark.parametrize(
    ("uri", "host"),
    [("https://WWW.Example.org:8080/a", "example.org"), ("http://user@b.net/x", "b.net"), ("/data/a.jpg", None)],
)
def test_hosts(uri: str, host: str | None) -> None:
    assert host_of(uri) == host
