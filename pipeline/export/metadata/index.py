"""`index.parquet` and `licences.csv`: a row per published sample, in shard order, written without holding them all.

Samples come shuffled from all parts. Rows are sorted as far as memory allows, run by run, into a temporary file each; then the
runs are merged, some ten thousand rows at a time.
"""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.parts import SCORES
from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.catalogue import Catalogue, kept_rows
from handface.pipeline.export.manifest import INDEX, LEDGER
from handface.pipeline.export.public import with_public_names
from handface.pipeline.export.write import Shard

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

UNKNOWN = "unknown"
# rows held at once, and of a row group of the index
_BATCH = 1 << 16
_LEDGER_COLUMNS = ("key", "licence", "author", "page", "uri", "member")


class Figures:
    """What the card tells of the samples, counted table by table."""

    # what is read of a part; an index has its host besides
    columns = ("licence", *SCORES)

    def __init__(self) -> None:
        self.samples = 0
        self.licence_counts: Counter[str] = Counter()
        self.host_counts: Counter[str] = Counter()
        self._scores: dict[str, list[NDArray[np.float32]]] = {name: [] for name in SCORES}

    def add(self, table: pa.Table) -> None:
        """Count a table's rows."""
        self.samples += len(table)
        self.licence_counts.update(value or UNKNOWN for value in table["licence"].to_pylist())
        self.host_counts.update(value or "(files)" for value in table["host"].to_pylist())
        for name, values in self._scores.items():
            values.append(table[name].drop_null().to_numpy().astype(np.float32))

    @property
    def licences(self) -> list[tuple[str, int]]:
        """Licences and how many samples have each, most frequent first."""
        return sorted(self.licence_counts.items(), key=lambda pair: (-pair[1], pair[0]))

    @property
    def unlicensed(self) -> int:
        """Samples of which no licence is known."""
        return self.licence_counts[UNKNOWN]

    @property
    def hosts(self) -> list[tuple[str, int]]:
        """Hosts and how many samples each gave, most frequent first."""
        return sorted(self.host_counts.items(), key=lambda pair: (-pair[1], pair[0]))

    def quantiles(self) -> dict[str, tuple[float, float, float]]:
        """5 %, median and 95 % of each score that is known."""
        found = {}
        for name, values in self._scores.items():
            known = np.concatenate(values) if values else np.zeros(0)
            if len(known):
                low, middle, high = np.quantile(known, [0.05, 0.5, 0.95]).tolist()
                found[name] = low, middle, high
        return found


def write_index(folder: Folder, tables: Iterable[pa.Table], schema: pa.Schema) -> Figures:
    """Write the index and the licence ledger from the tables of their rows, in order; returns the figures of the samples."""
    import pyarrow.parquet as pq

    figures = Figures()
    with _new_file(folder, INDEX) as index, _new_file(folder, LEDGER) as stream:
        ledger = csv.writer(text := io.StringIO(), lineterminator="\n")
        ledger.writerow(_LEDGER_COLUMNS)
        with pq.ParquetWriter(index, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)
                figures.add(table)
                columns = ([value or "" for value in table[name].to_pylist()] for name in _LEDGER_COLUMNS)
                ledger.writerows(zip(*columns, strict=True))
                stream.write(text.getvalue().encode())
                text.seek(text.truncate(0))
            if not figures.samples:
                writer.write_table(schema.empty_table())
        stream.write(text.getvalue().encode())
    return figures


def index_tables(folder: Folder, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The index of a release, some ten thousand rows at a time. Raises pyarrow.ArrowInvalid for a damaged one."""
    import pyarrow as pa

    with _open_index(folder) as file:
        for batch in file.iter_batches(_BATCH, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])


def index_schema(folder: Folder) -> pa.Schema:
    """The columns of the index of a release."""
    with _open_index(folder) as file:
        return file.schema_arrow


@contextmanager
def _open_index(folder: Folder) -> Iterator[pq.ParquetFile]:
    import pyarrow.parquet as pq

    source = folder.path(INDEX) if folder.local else io.BytesIO(folder.read(INDEX))
    with pq.ParquetFile(source, pre_buffer=False) as file:
        yield file


@contextmanager
def _new_file(folder: Folder, name: str) -> Iterator[IO[bytes]]:
    # what a killed run left
    folder.clean(name)
    with folder.writer(name) as stream:
        yield stream


def release_schema(catalogue: Catalogue) -> pa.Schema:
    """The columns of the index of a release of these parts."""
    import pyarrow as pa

    schema = kept_rows(catalogue.parts[0]).schema
    fields = [field for field in schema if field.name not in ("id", "offset", "size")]
    text, whole = pa.string(), pa.int64()
    places = [("family", text), ("split", text), ("shard", text), ("offset", whole), ("size", whole)]
    return pa.schema([*fields, *(pa.field(name, kind) for name, kind in places)])


def shuffled_tables(
    catalogue: Catalogue,
    rows: NDArray[np.void],
    family: NDArray[np.bytes_],
    shards: Sequence[Shard],
    schema: pa.Schema,
    scratch: Folder,
) -> Iterator[pa.Table]:
    """The rows of the index in shard order.

    Args:
        catalogue: where texts are read from.
        rows: (N,) `rows.ROW` in shard order.
        family: (N,) keys.
        shards: all of them, in order.
        schema: of the index.
        scratch: folder for temporary files, if it is on a disk.
    """
    places = _Places(rows, family, shards, len(catalogue.parts))
    with _scratch(scratch) as temporary:
        runs = [
            _write_run(run, temporary / f"{number:06d}") for number, run in enumerate(_runs(catalogue, rows, places))
        ]
        for batch in range(-(-len(rows) // _BATCH)):
            yield _merge(runs, batch, places, schema)


class _Places:
    """Where each published sample is, in shard order."""

    def __init__(self, rows: NDArray[np.void], family: NDArray[np.bytes_], shards: Sequence[Shard], parts: int) -> None:
        counts = [len(shard.pieces) for shard in shards]
        self.first = np.cumsum([0, *counts[:-1]])
        self.shards, self.family, self.size = shards, family, rows["size"]
        ends = np.cumsum(rows["size"])
        self.start = ends - rows["size"]
        # by part and row: which samples a part gave, and where they went
        self.by_part = np.lexsort((rows["row"], rows["part"]))
        self.part_starts = np.searchsorted(rows["part"][self.by_part], np.arange(parts + 1))

    def columns(self, low: int, high: int) -> dict[str, list[object]]:
        """family, split, shard, offset and size of the samples from `low` to `high`."""
        shard = np.searchsorted(self.first, np.arange(low, high), side="right") - 1
        offset = self.start[low:high] - self.start[self.first[shard]]
        numbers = shard.tolist()
        return {
            "family": self.family[low:high].astype("U").tolist(),
            "split": [self.shards[number].split for number in numbers],
            "shard": [self.shards[number].name for number in numbers],
            "offset": offset.tolist(),
            "size": self.size[low:high].tolist(),
        }


@contextmanager
def _scratch(folder: Folder) -> Iterator[Path]:
    """A temporary folder on the output's disk, which has the room; what a killed run left there is removed."""
    parent = Path(folder.path()) if folder.local else None
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(".tmp-index-*"):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-index-", dir=parent) as name:
        yield Path(name)


def _runs(catalogue: Catalogue, rows: NDArray[np.void], places: _Places) -> Iterator[pa.Table]:
    """Rows of neighbouring parts with the place each goes to, about `_BATCH` at a time, sorted by it."""
    import pyarrow as pa

    def published(number: int, table: pa.Table) -> pa.Table:
        goes_to = places.by_part[slice(*places.part_starts[number : number + 2])]
        chosen = table.take(rows["row"][goes_to]).drop_columns(["id", "offset", "size"])
        return with_public_names(chosen).append_column("place", pa.array(goes_to))

    held: list[pa.Table] = []
    count = 0
    for table in catalogue.map(published):
        held.append(table)
        count += len(table)
        if count >= _BATCH:
            yield _sort(pa.concat_tables(held))
            held, count = [], 0
    if count:
        yield _sort(pa.concat_tables(held))


def _write_run(run: pa.Table, path: Path) -> Path:
    """Write a sorted run, a record batch for each batch of the index."""
    import pyarrow as pa

    place = run["place"].to_numpy()
    edges = np.searchsorted(place, np.arange(0, place[-1] + _BATCH + 1, _BATCH))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, run.schema) as writer:
        for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            writer.write_batch(_batch(run.slice(low, high - low)))
    return path


def _batch(table: pa.Table) -> pa.RecordBatch:
    import pyarrow as pa

    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _merge(runs: Sequence[Path], batch: int, places: _Places, schema: pa.Schema) -> pa.Table:
    """The rows of one batch of the index, from every run that has some."""
    import pyarrow as pa

    found = []
    for path in runs:
        with pa.OSFile(str(path), "rb") as source:
            file = pa.ipc.open_file(source)
            if batch < file.num_record_batches:
                found.append(file.get_batch(batch))
    table = _sort(pa.Table.from_batches(found)).drop_columns(["place"])
    low = batch * _BATCH
    for name, values in places.columns(low, low + len(table)).items():
        table = table.append_column(schema.field(name), pa.array(values, schema.field(name).type))
    return table.combine_chunks()


def _sort(table: pa.Table) -> pa.Table:
    """By place. One chunk a column first: taking rows out of many chunks is slow for maps."""
    return table.combine_chunks().take(np.argsort(table["place"].to_numpy()))
