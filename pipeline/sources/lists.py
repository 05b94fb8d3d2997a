"""Lists of URLs or paths: txt, csv, tsv, jsonl, parquet; the text ones also gzipped. Extra columns travel along."""

from __future__ import annotations

import csv
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.sources.base import SourceConfig

_TEXT = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson")
LIST_SUFFIXES = (*_TEXT, *(f"{suffix}.gz" for suffix in _TEXT), ".parquet")
_SCHEMES = ("http", "https", "file", "s3", "gs", "gcs", "memory", "hf", "az", "abfs")
_MAX_FIELD = 1 << 20


@dataclass(frozen=True)
class ListSource:
    """One item per row, read as a stream; a row without a usable URL is an item with a problem.

    Relative paths are relative to the list. Raises ValueError if the list has no URL column at all.
    """

    uri: str
    config: SourceConfig = field(default_factory=SourceConfig)

    def __iter__(self) -> Iterator[SourceItem]:
        for number, row in enumerate(self._rows(), start=1):
            yield self._item(row, number)

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        name = self.uri.lower().removesuffix(".gz")
        if name.endswith(".parquet"):
            yield from self._parquet()
            return
        import fsspec

        compression = "gzip" if self.uri.lower().endswith(".gz") else None
        with fsspec.open(
            self.uri, "rt", encoding="utf-8-sig", errors="replace", newline="", compression=compression
        ) as file:
            if name.endswith((".csv", ".tsv")):
                yield from self._csv(file, "\t" if name.endswith(".tsv") else ",")
            elif name.endswith(".txt"):
                lines = (line.strip() for line in file)
                yield from ({self.config.url_column: line} for line in lines if line and not line.startswith("#"))
            else:
                yield from _jsonl(file)

    def _csv(self, file: IO[str], delimiter: str) -> Iterator[Mapping[str, Any]]:
        csv.field_size_limit(_MAX_FIELD)
        reader = csv.DictReader((line.replace("\0", "") for line in file), delimiter=delimiter)
        self._require(reader.fieldnames or [])
        yield from reader

    def _parquet(self) -> Iterator[Mapping[str, Any]]:
        import fsspec
        import pyarrow.parquet as pq

        with fsspec.open(self.uri, "rb") as file:
            table = pq.ParquetFile(file, pre_buffer=False)  # on this thread alone, as `pipeline.tables` says
            self._require(table.schema_arrow.names)
            for batch in table.iter_batches(batch_size=8192, use_threads=False):
                yield from batch.to_pylist()

    def _require(self, names: Iterable[str]) -> None:
        if self.config.url_column not in names:
            raise ValueError(
                f"{self.uri}: no column {self.config.url_column!r}; it has {', '.join(names)}. Name the right one (url_column)."
            )

    def _item(self, row: Mapping[str, Any], number: int) -> SourceItem:
        value = row.get(self.config.url_column)
        columns = tuple(
            (self.config.columns.get(name, name), str(cell))
            for name, cell in row.items()
            if name != self.config.url_column and name is not None and cell not in (None, "")
        )
        if not isinstance(value, str) or not value.strip():
            where = f"row{number}"  # two bad rows are two inputs
            detail = f"row {number}: {row.get(_BAD_LINE) or f'no value in column {self.config.url_column!r}'}"
            return SourceItem(self.uri, where, columns=columns, problem=Reason.MISSING_COLUMN, detail=detail)
        uri = value.strip()
        scheme, colon, rest = uri.partition(":")
        if colon and rest.startswith("//") and scheme.lower() not in _SCHEMES:
            return SourceItem(
                uri, columns=columns, problem=Reason.UNKNOWN_SCHEME, detail=f"row {number}: scheme {scheme!r}"
            )
        if "://" not in uri and not posixpath.isabs(uri):
            uri = posixpath.join(posixpath.dirname(self.uri), uri)
        return SourceItem(uri, columns=columns)


_BAD_LINE = "\0bad line"


def _jsonl(file: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for line in file:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row = {_BAD_LINE: f"not JSON ({error})"}
        yield row if isinstance(row, dict) else {_BAD_LINE: "not a JSON object"}
