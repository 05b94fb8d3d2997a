"""The order of the stream: shares, passes, independence of ranks, repeatability."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.trainers.data.order import BLOCK, SHARDS_TOGETHER, MixOrder

sizes = st.lists(st.integers(1, 60), min_size=1, max_size=4)
seeds = st.integers(0, 2**31)


def order_of(counts: list[int], weights: list[float], seed: int = 0, shuffle: str = "samples") -> MixOrder:
    return MixOrder([np.arange(n) // 7 for n in counts], weights, seed, shuffle)


@settings(max_examples=8, deadline=None)
@given(sizes, seeds, st.sampled_from(["samples", "shards", "none"]), st.data())
def test_every_pass_of_a_set_holds_each_sample_once(
    counts: list[int], seed: int, shuffle: str, data: st.DataObject
) -> None:
    # the smallest share of two blocks, 0.5 of 12.5, is more than the largest set
    weights = data.draw(st.lists(st.floats(0.5, 4), min_size=len(counts), max_size=len(counts)))
    order = order_of(counts, weights, seed, shuffle)
    rows: dict[int, list[int]] = {d: [] for d in range(len(counts))}
    for position in range(2 * BLOCK):
        dataset, row = order(position)
        rows[dataset].append(row)
    for dataset, count in enumerate(counts):
        whole = len(rows[dataset]) // count
        assert whole >= 1
        for k in range(whole):
            assert sorted(rows[dataset][k * count : (k + 1) * count]) == list(range(count))


@settings(max_examples=30, deadline=None)
@given(
    sizes, seeds, st.lists(st.integers(0, 5 * BLOCK), min_size=1, max_size=30), st.sampled_from(["samples", "shards"])
)
def test_a_position_means_the_same_whatever_was_asked_before(
    counts: list[int], seed: int, positions: list[int], shuffle: str
) -> None:
    walked = order_of(counts, [1.0] * len(counts), seed, shuffle)
    answers = [walked(p) for p in positions]
    assert answers == [order_of(counts, [1.0] * len(counts), seed, shuffle)(p) for p in positions]
    assert answers[::-1] == [walked(p) for p in reversed(positions)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.05, 20), min_size=2, max_size=5), seeds)
def test_shares_are_the_weights_in_every_block(weights: list[float], seed: int) -> None:
    order = order_of([11] * len(weights), weights, seed)
    counts = Counter(order(p)[0] for p in range(BLOCK))
    for dataset, weight in enumerate(weights):
        assert abs(counts[dataset] - BLOCK * weight / sum(weights)) <= 1


def test_a_set_of_tiny_weight_is_still_drawn() -> None:
    order = order_of([5, 5], [1e-9, 1.0])
    assert order.quotas.tolist() == [1, BLOCK - 1]


def test_seeds_and_passes_differ() -> None:
    first, other = order_of([500], [1.0], 1), order_of([500], [1.0], 2)
    assert [first(p) for p in range(500)] != [other(p) for p in range(500)]
    assert [first(p) for p in range(500)] != [first(p + 500) for p in range(500)]


def test_shuffling_by_shard_keeps_few_shards_open_at_once() -> None:
    shards = np.repeat(np.arange(64), 10)
    order = MixOrder([shards], [1.0], 0, "shards")
    window = SHARDS_TOGETHER * 10
    seen = [shards[order(p)[1]] for p in range(640)]
    for k in range(0, 640, window):
        assert len(set(seen[k : k + window])) == SHARDS_TOGETHER
    assert seen[:window] != sorted(seen[:window])


def test_what_stands_in_is_of_the_same_set_and_always_the_same() -> None:
    order = order_of([30, 40], [1.0, 1.0])
    for position in range(50):
        replacement = order.replacement(position, 0)
        assert replacement[0] == order(position)[0]
        assert replacement == order_of([30, 40], [1.0, 1.0]).replacement(position, 0)
    assert len({order.replacement(3, attempt) for attempt in range(10)}) > 1


def test_unshuffled_is_as_stored() -> None:
    order = order_of([4], [1.0], 9, "none")
    assert [order(p)[1] for p in range(9)] == [0, 1, 2, 3, 0, 1, 2, 3, 0]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_the_stream(world: int) -> None:
    from handface.trainers.data.loader import _Endless

    step = []
    for rank in range(world):
        batches = iter(_Endless(8 // world, rank, world).starting_at(16))
        step.append([next(batches), next(batches)])
    for k in range(2):
        assert [p for rank in step for p in rank[k]] == list(range(16 + 8 * k, 24 + 8 * k))
