"""Lists of URLs or paths: txt, csv, tsv, jsonl, parquet; the text ones also gzipped. Extra columns travel along."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.names.addresses import AddressRefusedError, UnknownSchemeError, filesystem_of, may_open
from handface.pipeline.contract.names.url_names import is_web
from handface.pipeline.contract.text import text_encoding
from handface.pipeline.fetch.opening import open_remote
from handface.pipeline.sources.base import Notes, SourceConfig
from handface.pipeline.sources.columns import cell_text, clean_text, dropped_kind

if TYPE_CHECKING:
    import pyarrow as pa

_TEXT = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson")
LIST_SUFFIXES = (*_TEXT, *(f"{suffix}.gz" for suffix in _TEXT), ".parquet")
_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://")
_PROVENANCE = {"licence", "license", "author", "page"}
_BAD_ROW = "\0bad row"  # a key that no list can have
_BAD_REASON = "\0reason"  # beside it; `unreadable` if it is not there
_PATHS = ("file", "path")  # what lists of local pictures call the column that others call `url`


@dataclass(frozen=True)
class ListSource:
    """One item per row, read as a stream; a row without a usable URL is an item with a problem.

    Relative paths are relative to the list; `any_file` lets rows name local files that do not lie below its folder.
    Raises ValueError if the list has no URL column, or several.
    """

    uri: str
    config: SourceConfig = field(default_factory=SourceConfig)
    notes: Notes = field(default_factory=Notes, compare=False)
    any_file: bool = False

    def __iter__(self) -> Iterator[SourceItem]:
        self.notes.rows[self.uri] = 0
        for number, row in enumerate(self._rows(), start=1):
            self.notes.rows[self.uri] = number
            yield self._item(row, number)

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        whole = (self.uri.partition("?")[0] if is_web(self.uri) else self.uri).lower()
        name = whole.removesuffix(".gz")
        if name.endswith(".parquet"):
            yield from self._parquet()
            return
        with ExitStack() as stack:
            binary: IO[bytes] = stack.enter_context(open_remote(self.uri))
            if name != whole:
                binary = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=binary)))
            file = _decoded(binary)
            if name.endswith((".csv", ".tsv")):
                yield from self._csv(file, tabs=name.endswith(".tsv"))
            elif name.endswith(".txt"):
                lines = (line.strip() for line in file)
                yield from ({self.config.url_column: line} for line in lines if line and not line.startswith("#"))
            else:
                yield from (self._renamed(row, self._address(row)) for row in _jsonl(file))

    def _csv(self, file: IO[str], tabs: bool) -> Iterator[Mapping[str, Any]]:
        lines = (line.replace("\0", "") for line in file)
        first = next(lines, "")
        # Tab-separated captions begin with quotes that nobody closes; quotes count only where every column's name has them.
        plain = tabs and not all(cell.startswith('"') for cell in first.rstrip("\r\n").split("\t"))
        quoting: Literal[0, 3] = csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL
        delimiter = "\t" if tabs else ","
        names = next(csv.reader([first], delimiter=delimiter, quoting=quoting), [])
        column = self._require(names)
        names = [self.config.url_column if name == column else name for name in names]
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=not plain)
        while True:
            before = reader.line_num
            try:
                cells = next(reader, None)
            except csv.Error as error:
                if reader.line_num > before + 1 or "end of data" in str(error):
                    raise ValueError(self._open_quote(before + 2)) from error
                reason = Reason.TOO_LARGE if "field larger" in str(error) else Reason.UNREADABLE
                yield {_BAD_ROW: f"line {reader.line_num + 1}: {error}", _BAD_REASON: reason}
                continue
            if cells is None:
                return
            if cells:
                yield self._row(names, cells, before + 2)

    def _row(self, names: Sequence[str], cells: list[str], line: int) -> Mapping[str, Any]:
        if len(cells) > len(names):
            return {_BAD_ROW: f"line {line}: {len(cells)} cells for {len(names)} columns"}
        if any("\n" in cell and self._holds_rows(names, cell) for cell in cells):
            raise ValueError(self._open_quote(line))
        return dict(zip(names, cells, strict=False))

    def _open_quote(self, line: int) -> str:
        return (
            f"{self.uri}: a quotation mark in line {line} is not closed where its cell ends, and takes whole rows into the"
            " cell; write quotation marks inside cells as two, or give the list as .tsv or .jsonl"
        )

    def _holds_rows(self, names: Sequence[str], cell: str) -> bool:
        """Whether the later lines of a cell look like rows of this list."""
        place = names.index(self.config.url_column)
        for line in cell.splitlines()[1:]:
            cells = line.split(",")
            if len(names) > 1 and len(cells) == len(names) and _SCHEME.match(cells[place].strip(' "')):
                return True
        return False

    def _parquet(self) -> Iterator[Mapping[str, Any]]:
        import pyarrow.parquet as pq

        for uri in _parquet_files(self.uri):
            with open_remote(uri) as file:
                table = pq.ParquetFile(file, pre_buffer=False)  # on this thread alone, as `contract.tables` says
                column = self._require(table.schema_arrow.names)
                columns = self._travelling(table.schema_arrow)
                for batch in table.iter_batches(batch_size=8192, use_threads=False, columns=columns):
                    yield from (self._renamed(row, column) for row in batch.to_pylist())

    def _travelling(self, schema: pa.Schema) -> list[str]:
        """The columns worth reading; those of bytes, vectors and nested values are noted as dropped."""
        import pyarrow.types as kinds

        known = {self.config.url_column, *_PROVENANCE, *self.config.columns}
        kept = []
        for column in schema:
            binary = kinds.is_binary(column.type) or kinds.is_large_binary(column.type)
            if (binary and column.name in known) or not (binary or _is_odd(column.type)):
                kept.append(column.name)
            else:
                self.notes.dropped.setdefault(column.name, f"{column.type}")
        return kept

    def _address(self, names: Collection[str]) -> str:
        """The column with the addresses: the configured one, or, where a list has no `url`, its `file` or `path`."""
        wanted = self.config.url_column
        if wanted in names or wanted != SourceConfig.url_column:
            return wanted
        paths = [name for name in _PATHS if name in names]
        return paths[0] if len(paths) == 1 else wanted

    def _renamed(self, row: Mapping[str, Any], column: str) -> Mapping[str, Any]:
        """A row with its address under the configured name."""
        if column == self.config.url_column:
            return row
        return {self.config.url_column if name == column else name: cell for name, cell in row.items()}

    def _require(self, names: Iterable[str]) -> str:
        """The column with the addresses. Raises ValueError if there is none, or several."""
        names = list(names)
        wanted = self._address(names)
        if names.count(wanted) > 1:
            raise ValueError(f"{self.uri}: {names.count(wanted)} columns are called {wanted!r}; rename all but one")
        if wanted in names:
            return wanted
        alike = [name for name in names if name.lower().strip(' "') == wanted.lower()]
        alike = (
            alike or difflib.get_close_matches(wanted, names, 1) or [name for name in names if "url" in name.lower()]
        )
        flag = f"--sources.url-column {alike[0] if alike else 'NAME'}"
        raise ValueError(
            f"{self.uri}: no column {wanted!r}; it has {', '.join(names)[:500] or 'none'}. Rename one, or give `annotate` and `crawl` {flag}"
        )

    def _item(self, row: Mapping[str, Any], number: int) -> SourceItem:
        if _BAD_ROW in row:
            detail = f"row {number}: {row[_BAD_ROW]}"
            return SourceItem(self.uri, f"row{number}", problem=row.get(_BAD_REASON, Reason.UNREADABLE), detail=detail)
        columns = self._columns(row)
        cell = row.get(self.config.url_column)
        cell = _as_text(cell) if isinstance(cell, bytes) else cell
        value = cell_text(cell) if isinstance(cell, str) else None
        if value is None:
            where = f"row{number}"  # two bad rows are two inputs
            kind = dropped_kind(cell)
            detail = f"row {number}: {kind or 'no value'} in column {self.config.url_column!r}"
            reason = Reason.TOO_LARGE if kind and isinstance(cell, str) else Reason.MISSING_COLUMN
            return SourceItem(self.uri, where, columns=columns, problem=reason, detail=detail)
        return self._located(value.strip(), columns, number)

    def _columns(self, row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        found = []
        url, rename = self.config.url_column, self.config.columns
        for name, cell in row.items():
            if name == url:
                continue
            value = _as_text(cell) if isinstance(cell, bytes) else cell
            if (text := cell_text(value)) is not None:
                found.append((clean_text(rename.get(name, name)), text))
            elif (kind := dropped_kind(value)) is not None:
                self.notes.dropped.setdefault(clean_text(name), kind)
        return tuple(found)

    def _located(self, uri: str, columns: tuple[tuple[str, str], ...], number: int) -> SourceItem:
        try:
            place = may_open(uri, listing=self.uri, anywhere=self.any_file)
        except AddressRefusedError as error:
            unknown = isinstance(error, UnknownSchemeError)
            reason = Reason.UNKNOWN_SCHEME if unknown else Reason.BAD_ADDRESS
            return SourceItem(uri, f"row{number}", columns=columns, problem=reason, detail=f"row {number}: {error}")
        return SourceItem(place.address, columns=columns)


def _decoded(binary: IO[bytes]) -> IO[str]:
    """Text in whichever Unicode encoding it is, without its byte order mark."""
    buffered = io.BufferedReader(cast(io.RawIOBase, binary))
    start = buffered.peek(4)[:4]
    encoding = text_encoding(start)
    mark = "\ufeff".encode(encoding)
    if start.startswith(mark):
        buffered.read(len(mark))
    return io.TextIOWrapper(buffered, encoding, errors="replace", newline="")


def _parquet_files(uri: str) -> list[str]:
    """The file, or those of a folder as Spark writes it (`urls.parquet/part-0001.parquet`)."""
    if is_web(uri):
        return [uri]
    filesystem, path = filesystem_of(uri)
    if not filesystem.isdir(path):
        return [uri]
    names = sorted(name for name in filesystem.find(path) if not name.rpartition("/")[2].startswith(("_", ".")))
    if not names:
        raise ValueError(f"{uri}: a folder without a parquet file")
    return [filesystem.unstrip_protocol(name) if "://" in uri else name for name in names]


def _is_odd(kind: pa.DataType) -> bool:
    import pyarrow as pa
    import pyarrow.types as kinds

    return kinds.is_nested(kind) or kinds.is_fixed_size_binary(kind) or isinstance(kind, pa.BaseExtensionType)


def _as_text(cell: bytes) -> str | bytes:
    """Bytes that are short UTF-8 text, as writers without a text type leave them, become text."""
    try:
        return cell.decode() if len(cell) <= 4096 else cell
    except UnicodeDecodeError:
        return cell


def _jsonl(file: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for line in file:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row = {_BAD_ROW: f"not JSON ({error})"}
        yield row if isinstance(row, dict) else {_BAD_ROW: "not a JSON object"}
