"""`make_loader`: batches of an endless mix for training; `make_pass`: every sample once, for evaluation."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from handface.pipeline.contract.sample import SampleError
from handface.trainers.batch import Batch
from handface.trainers.data.collate import collate
from handface.trainers.data.config import AugmentConfig, DataConfig
from handface.trainers.data.decode import Decoded, SampleDecoder
from handface.trainers.data.errors import DataError
from handface.trainers.data.order import MixOrder
from handface.trainers.data.shards.store import Reader, Table, open_dataset

_ATTEMPTS = 20
_REQUESTS = 16  # to an object store at once, of each worker
_log = logging.getLogger(__name__)


def make_loader(
    config: DataConfig, rank: int = 0, world: int = 1, start: int = 0, pin_memory: bool | None = None
) -> Loader:
    """Endless training batches of this rank.

    Batch k holds positions start + (k world + rank) batch_size ... of the stream, which is the same for any number of workers
    and ranks. start: samples that all ranks together have consumed before.  pin_memory: if there is CUDA, if not given.
    Raises FileNotFoundError naming a missing shard, ShardError naming a damaged one, DataError or BodyFileError.
    """
    source = _Source.open(config)
    order = MixOrder(
        [table.shards for table in source.tables], [d.weight for d in config.datasets], config.seed, config.shuffle
    )
    return Loader(config, source.ordered(order), _Endless(config.batch_size, rank, world), start, pin_memory)


def make_pass(config: DataConfig, rank: int = 0, world: int = 1, pin_memory: bool | None = None) -> Loader:
    """This rank's share of one pass over all samples, in the order of data sets and shards, not varied; left hands are mirrored.

    Ranks take batches in turn; the last batch may be short, and a rank may have one batch less. Unreadable samples are left out.
    Raises as `make_loader`.
    """
    source = _Source.open(replace(config, augment=AugmentConfig.none()))
    batches = _Finite(config.batch_size, rank, world, sum(len(table) for table in source.tables))
    return Loader(config, source.ordered(_InOrder([len(table) for table in source.tables])), batches, 0, pin_memory)


class Loader:
    """Iterable of `Batch`; `position` counts the samples that all ranks have been handed, and a new iteration starts there.

    `bad`: unreadable samples met so far, key -> why. `remarks`: labels left out so far, reason -> count.
    """

    def __init__(
        self, config: DataConfig, source: _Source, batches: _Endless | _Finite, start: int, pin_memory: bool | None
    ) -> None:
        self.config, self.position = config, start
        self.names = tuple(table.name for table in source.tables)
        self.sizes = tuple(len(table) for table in source.tables)
        self.fingerprint = source.fingerprint()
        # samples and checksum of each set
        self.sets = {table.name: [len(table), table.digest.hex()] for table in source.tables}
        self.bad: dict[str, str] = {}
        self.remarks: Counter[str] = Counter()
        self._source, self._batches = source, batches
        self._pin = torch.cuda.is_available() if pin_memory is None else pin_memory

    def __iter__(self) -> Iterator[Batch]:
        workers = self.config.workers
        loader: DataLoader[Any] = DataLoader(
            self._source,
            batch_sampler=self._batches.starting_at(self.position),
            num_workers=workers,
            collate_fn=self._source.collate,
            pin_memory=self._pin,
            worker_init_fn=_start_worker,
            prefetch_factor=self.config.prefetch if workers else None,
        )
        for batch, notes in loader:
            self._take(notes)
            self.position += notes.positions * self._batches.world
            if batch is not None:
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, after the last batch handed out; valid for any number of ranks and workers."""
        return {"position": self.position, "fingerprint": self.fingerprint, "sets": self.sets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`. Raises DataError if order or data are not those of the state."""
        if state["fingerprint"] != self.fingerprint:
            raise DataError(
                f"the run cannot go on with other data: {self._difference(state.get('sets', {}))}. Give the data that it began"
                " with, or start a new run from its weights: --output ANOTHER --init WEIGHTS"
            )
        self.position = int(state["position"])

    def _difference(self, before: Mapping[str, Sequence[Any]]) -> str:
        """How the data differ from those of a state, in words. before: its `sets`; states of older versions have none."""
        if not before:
            return "samples, weights, seed or shuffle are not those of the checkpoint"
        if list(before) != list(self.sets):
            return f"its sets were {', '.join(before)}, now they are {', '.join(self.sets)}"
        changed = [
            f"set {name} had {before[name][0]:,} samples, and has "
            + (f"{now[0]:,}" if now[0] != before[name][0] else "as many others, or in another order")
            for name, now in self.sets.items()
            if now != list(before[name])
        ]
        return "; ".join(changed) or "weights, seed or shuffle are others"

    def _take(self, notes: LoaderNotes) -> None:
        """Count and log what a batch's samples lacked. Raises DataError over the budget."""
        for remark, count in notes.remarks.items():
            if remark not in self.remarks:
                _log.warning("labels are left out: %s", remark)
            self.remarks[remark] += count
        for key, why in notes.bad.items():
            if key not in self.bad:
                _log.warning("sample %s is passed over: %s", key, why)
            self.bad[key] = why
        allowed = math.ceil(self.config.bad_share * sum(self.sizes))
        if len(self.bad) > allowed:
            key, why = next(iter(notes.bad.items()))
            raise DataError(
                f"{len(self.bad)} unreadable samples, {allowed} are allowed (bad_share {self.config.bad_share} of"
                f" {sum(self.sizes)}); the last is {key}: {why}. Run `handface validate` on the shards"
            )


@dataclass(frozen=True)
class LoaderNotes:
    """What reading one batch brought up. positions: how many of the stream it covers.  bad: key -> why.  remarks: reason -> count."""

    positions: int
    bad: dict[str, str]
    remarks: Counter[str]


_Fetched = tuple[Batch | None, LoaderNotes]
_Item = tuple[Decoded | None, dict[str, str]]
_Read = tuple[tuple[int, int], tuple[str, dict[str, bytes]] | Exception]


class _Order(Protocol):
    def __call__(self, position: int) -> tuple[int, int]: ...
    def replacement(self, position: int, attempt: int) -> tuple[int, int] | None: ...


class _InOrder:
    """Data sets one after the other."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes

    def __call__(self, position: int) -> tuple[int, int]:
        for dataset, size in enumerate(self.sizes):
            if position < size:
                return dataset, position
            position -= size
        raise IndexError("past the last sample")

    def replacement(self, position: int, attempt: int) -> None:
        """None: what cannot be read is left out."""


class _Source(Dataset[_Item]):
    """What a worker runs: position of the stream -> decoded sample."""

    def __init__(self, config: DataConfig, tables: Sequence[Table], decoder: SampleDecoder, order: _Order) -> None:
        self.config, self.tables, self.decoder, self.order = config, tables, decoder, order
        self.reader = Reader(config.patience)

    @classmethod
    def open(cls, config: DataConfig) -> _Source:
        tables = [open_dataset(dataset, config.index_folder, config.patience) for dataset in config.datasets]
        return cls(config, tables, SampleDecoder(config), _InOrder([len(table) for table in tables]))

    def ordered(self, order: _Order) -> _Source:
        """The same samples in another order."""
        return _Source(self.config, self.tables, self.decoder, order)

    def fingerprint(self) -> str:
        """sha256 of everything that decides which sample stands where."""
        config = self.config
        digest = hashlib.sha256(repr((config.seed, config.shuffle, [d.weight for d in config.datasets])).encode())
        for table in self.tables:
            digest.update(table.digest)
        return digest.hexdigest()

    def __getitem__(self, position: int) -> _Item:
        """The sample at a position, or the one that stands in for it, and what could not be read on the way."""
        return self._decode(position, self._read(self.order(position)))

    def __getitems__(self, positions: Sequence[int]) -> list[_Item]:
        """Several at once; those on object stores are asked for side by side."""
        places = [self.order(position) for position in positions]
        remote = any("://" in uri for dataset, _ in places for uri in self.tables[dataset].uris[:1])
        if not remote:
            return [self._decode(p, self._read(place)) for p, place in zip(positions, places, strict=True)]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            fetched = list(pool.map(self._read, places))
        return [self._decode(position, found) for position, found in zip(positions, fetched, strict=True)]

    def _read(self, place: tuple[int, int]) -> _Read:
        """A sample's members, or the error that keeps it from being read."""
        dataset, row = place
        try:
            return place, self.reader.read(self.tables[dataset], row)
        except (SampleError, OSError) as error:
            return place, error

    def _decode(self, position: int, found: _Read) -> _Item:
        """The sample that was read, or one that stands in for it, decoded."""
        drawn = self.decoder.draw(position)
        bad: dict[str, str] = {}
        for attempt in range(_ATTEMPTS):
            (dataset, row), what = found
            table = self.tables[dataset]
            key = table.place(row)
            try:
                if isinstance(what, Exception):
                    raise what
                key, members = what
                return self.decoder(key, dataset, members, drawn), bad
            except (SampleError, OSError) as error:
                bad[key] = f"{table.uri(row)}: {error}"
            place = self.order.replacement(position, attempt)
            if place is None:
                return None, bad
            found = self._read(place)
        raise DataError(f"{_ATTEMPTS} samples in a row are unreadable; the last is {key}: {bad[key]}")

    def collate(self, items: Sequence[_Item]) -> _Fetched:
        """One batch and its notes."""
        samples = [sample for sample, _ in items if sample is not None]
        bad = {key: why for _, lost in items for key, why in lost.items()}
        remarks = Counter(remark for sample in samples for remark in sample.remarks)
        batch = collate(samples, self.decoder.hand, self.decoder.head) if samples else None
        return batch, LoaderNotes(len(items), bad, remarks)


@dataclass(frozen=True)
class _Endless:
    """Positions of one rank's batches, without end."""

    batch_size: int
    rank: int
    world: int

    def __post_init__(self) -> None:
        _check_rank(self.rank, self.world)

    def starting_at(self, position: int) -> Iterable[list[int]]:
        return _Restartable(lambda: self._positions(position + self.rank * self.batch_size))

    def _positions(self, first: int) -> Iterator[list[int]]:
        while True:
            yield list(range(first, first + self.batch_size))
            first += self.batch_size * self.world


@dataclass(frozen=True)
class _Finite:
    """Positions of one rank's batches up to `total`."""

    batch_size: int
    rank: int
    world: int
    total: int

    def __post_init__(self) -> None:
        _check_rank(self.rank, self.world)

    def starting_at(self, position: int) -> Iterable[list[int]]:
        """A pass is read from its start."""
        firsts = range(self.rank * self.batch_size, self.total, self.batch_size * self.world)
        return [list(range(first, min(first + self.batch_size, self.total))) for first in firsts]


class _Restartable:
    """An iterable from a function that makes iterators, as DataLoader wants it."""

    def __init__(self, make: Callable[[], Iterator[list[int]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[list[int]]:
        return self._make()


def _check_rank(rank: int, world: int) -> None:
    if not 0 <= rank < world:
        raise DataError(f"rank {rank} of {world}: ranks are 0 to world - 1")


def _start_worker(worker: int) -> None:
    """Ranks and workers share the cores: no threads inside a worker."""
    import cv2

    cv2.setNumThreads(0)
