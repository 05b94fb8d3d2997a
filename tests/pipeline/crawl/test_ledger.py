"""The ledger says what sets in memory would say."""

from __future__ import annotations

import random

import numpy as np

from handface.pipeline.crawl.ledger import Ledger


def draw(rng: random.Random, count: int) -> list[list[str]]:
    """Rounds of ids; many come again, in the same round and in later ones, and some share their first byte."""
    known = [f"{rng.getrandbits(64):016x}" for _ in range(count // 3)] + [
        f"00{rng.getrandbits(56):014x}" for _ in range(20)
    ]
    return [[rng.choice(known) for _ in range(rng.randrange(count))] for _ in range(4)]


def test_unasked_and_last_words_are_those_of_plain_sets() -> None:
    for seed in range(20):
        rounds = draw(random.Random(seed), 300)
        with Ledger() as ledger:
            for number, ids in enumerate(rounds):
                for start in range(0, len(ids), 50):
                    ledger.add(number, ids[start : start + 50])
            fresh, last = ledger.unasked(3), ledger.last_words()
        seen = set(rounds[0] + rounds[1] + rounds[2])
        expected = []
        for identity in rounds[3]:
            expected.append(identity not in seen)
            seen.add(identity)
        assert fresh.tolist() == expected
        said: set[tuple[str, int]] = set()
        for number in (3, 2, 1, 0):
            copies: dict[str, int] = {}
            marks = []
            for identity in rounds[number]:
                copies[identity] = copies.get(identity, 0) + 1
                marks.append((identity, copies[identity]))
            assert last[number].tolist() == [mark not in said for mark in marks]
            said.update(marks)


def test_nothing_asked_is_no_trouble() -> None:
    with Ledger() as ledger:
        ledger.add(0, [])
        assert ledger.unasked(0).tolist() == [] and ledger.unasked(5).shape == (0,)
        assert ledger.last_words()[0].dtype == np.bool_
