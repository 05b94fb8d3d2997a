"""The order of samples: which sample stands at position p of the endless stream, for any p, without walking there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096  # positions in which every data set has exactly its share
SHARDS_TOGETHER = 16
_BLOCK_SEED, _PASS_SEED = 0, 1

Integers = NDArray[np.int64]
Rows = NDArray[np.uint32]


class MixOrder:
    """A weighted mix of data sets as a pure function position -> (data set, row).

    The stream is cut into blocks of 4096 positions. Each block holds every set in proportion to its weight (largest remainder, at
    least one), shuffled by (seed, block). The k-th position of a set is row k mod n of its pass k div n, and each pass is a
    permutation by (seed, set, pass), so that every sample of a set comes once before any comes again. Neither ranks nor workers
    enter: they only decide who reads which positions.
    """

    def __init__(
        self, shards: Sequence[Integers], weights: Sequence[float], seed: int, shuffle: str = "samples"
    ) -> None:
        """shards: per data set the shard number of each of its rows, (n,), ascending.  shuffle: `samples`, `shards` or `none`."""
        self.counts = [np.unique(rows, return_counts=True)[1] for rows in shards]
        self.seed, self.shuffle = seed, shuffle
        self.sizes = [len(rows) for rows in shards]
        self.quotas = _quotas(np.asarray(weights, np.float64))
        self._blocks: dict[int, tuple[Integers, Integers]] = {}
        self._passes: dict[tuple[int, int], Rows] = {}

    def __call__(self, position: int) -> tuple[int, int]:
        """(data set, row) at a position >= 0."""
        block, inside = divmod(position, BLOCK)
        datasets, nth = self._block(block)
        dataset = int(datasets[inside])
        turn = block * int(self.quotas[dataset]) + int(nth[inside])
        number, place = divmod(turn, self.sizes[dataset])
        return dataset, int(self._pass(dataset, number)[place])

    def replacement(self, position: int, attempt: int) -> tuple[int, int]:
        """What stands in for an unreadable sample at a position: another of the same set, by (seed, position, attempt)."""
        dataset, _ = self(position)
        rng = np.random.default_rng([self.seed, position, attempt])
        return dataset, int(rng.integers(self.sizes[dataset]))

    def _block(self, block: int) -> tuple[Integers, Integers]:
        """Data set of each position of a block, and how many of that set the block had before it; (BLOCK,) each."""
        if block not in self._blocks:
            datasets = np.repeat(np.arange(len(self.quotas)), self.quotas)
            if self.shuffle != "none":
                datasets = np.random.default_rng([self.seed, _BLOCK_SEED, block]).permutation(datasets)
            nth = np.empty(BLOCK, np.int64)
            for dataset, quota in enumerate(self.quotas):
                nth[datasets == dataset] = np.arange(quota)
            _forget_oldest(self._blocks, 2)
            self._blocks[block] = datasets, nth
        return self._blocks[block]

    def _pass(self, dataset: int, number: int) -> Rows:
        """The rows of a data set in the order of one pass, (n,)."""
        if (dataset, number) not in self._passes:
            _forget_oldest(self._passes, 2 * len(self.sizes) - 1)
            # half the memory of int64; a loader holds this for every sample
            self._passes[dataset, number] = self._permute(dataset, number).astype(np.uint32)
        return self._passes[dataset, number]

    def _permute(self, dataset: int, number: int) -> Integers:
        rng = np.random.default_rng([self.seed, _PASS_SEED, dataset, number])
        size = self.sizes[dataset]
        if self.shuffle == "none":
            return np.arange(size)
        if self.shuffle == "samples":
            return rng.permutation(size)
        counts = self.counts[dataset]
        # which shards are open together
        group = np.repeat(rng.permutation(len(counts)), counts) // SHARDS_TOGETHER
        return np.lexsort((rng.random(size), group)).astype(np.int64)


def _quotas(weights: NDArray[np.float64]) -> Integers:
    """Positions of a block for each data set, summing to BLOCK: largest remainder, at least one each."""
    exact = weights / weights.sum() * BLOCK
    quotas = np.maximum(np.floor(exact), 1).astype(np.int64)
    while (missing := BLOCK - int(quotas.sum())) != 0:
        if missing > 0:
            quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
        else:
            quotas[np.argmax(quotas)] -= 1
    return quotas


def _forget_oldest(cache: dict[Any, Any], limit: int) -> None:
    while len(cache) >= limit:
        del cache[next(iter(cache))]
