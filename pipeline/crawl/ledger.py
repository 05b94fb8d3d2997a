"""Which URLs a crawl has asked for, kept on the local disk: memory stays flat however many there are.

Ids are spilled into partitions by their first byte; questions are answered one partition after the other, and each answer is one
bit per URL in the order in which the URLs came.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PARTITIONS = 256
_ENTRY = np.dtype([("id", "<u8"), ("round", "<i4"), ("place", "<i8")])  # place: the URL's number within its round


class Ledger:
    """Asked URLs by round. Use as a context manager; `add` everything, then ask."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._counts: dict[int, int] = {}

    def __enter__(self) -> Ledger:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="handface-ledger-")))
        self._files = [self._stack.enter_context((folder / f"{n:02x}").open("w+b")) for n in range(_PARTITIONS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, number: int, ids: Sequence[str]) -> None:
        """URLs of round `number`, as the 16 hex digits of their ids, in order."""
        start = self._counts.get(number, 0)
        self._counts[number] = start + len(ids)
        entries = np.empty(len(ids), _ENTRY)
        entries["id"] = np.frombuffer(bytes.fromhex("".join(ids)), ">u8")
        entries["round"] = number
        entries["place"] = np.arange(start, start + len(ids))
        partition = (entries["id"] >> np.uint64(56)).astype(np.int64)
        order = np.argsort(partition, kind="stable")
        ends = np.searchsorted(partition[order], np.arange(1, _PARTITIONS + 1))
        for file, some in zip(self._files, np.split(entries[order], ends[:-1]), strict=True):
            if len(some):
                file.write(some.tobytes())

    def last_words(self) -> dict[int, NDArray[np.bool_]]:
        """{round: (URLs,) whether no later round asked again}. A URL that one round lists k times is k inputs, told apart by order."""
        last = {number: np.zeros(count, bool) for number, count in self._counts.items()}
        for entries in self._partitions():
            entries = entries[np.lexsort((entries["place"], entries["round"], entries["id"]))]
            same = (entries["id"][1:] == entries["id"][:-1]) & (entries["round"][1:] == entries["round"][:-1])
            copy = _running_count(same)
            order = np.lexsort((entries["round"], copy, entries["id"]))
            entries, copy = entries[order], copy[order]
            ends = np.ones(len(entries), bool)
            ends[:-1] = (entries["id"][1:] != entries["id"][:-1]) | (copy[1:] != copy[:-1])
            for number in last:
                last[number][entries["place"][ends & (entries["round"] == number)]] = True
        return last

    def unasked(self, number: int) -> NDArray[np.bool_]:
        """(URLs of round `number`,) whether no earlier round has it, nor an earlier place in this one."""
        fresh = np.zeros(self._counts.get(number, 0), bool)
        for entries in self._partitions():
            entries = entries[np.lexsort((entries["place"], entries["round"], entries["id"]))]
            first = np.ones(len(entries), bool)
            first[1:] = entries["id"][1:] != entries["id"][:-1]
            fresh[entries["place"][first & (entries["round"] == number)]] = True
        return fresh

    def _partitions(self) -> Iterator[NDArray[Any]]:
        for file in self._files:
            file.seek(0)
            entries = np.frombuffer(file.read(), _ENTRY)
            if len(entries):
                yield entries


def _running_count(same: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N - 1,) whether an entry equals the one before -> (N,) how many equal ones stand before it in its run."""
    index = np.arange(len(same) + 1)
    starts = np.where(np.concatenate([[True], ~same]), index, 0)
    return index - np.maximum.accumulate(starts)


def chosen(items: Iterable[Any], mask: NDArray[np.bool_]) -> Iterator[Any]:
    """The items whose bit is set."""
    return (item for item, wanted in zip(items, mask, strict=True) if wanted)
