"""Which samples are published: everything that must or should not be is dropped here, with a reason per sample."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.exclusion import RADIUS, Exclusion
from handface.pipeline.contract.images.phash import parse_hash
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import load_table
from handface.pipeline.export.catalogue import Catalogue, ExportError, kept_rows, read_catalogue
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.dedupe import connected_components
from handface.pipeline.export.public import public_name
from handface.pipeline.export.rows import perceptual_hashes, read_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# what the reasons say, after "left out:"
WHY_DROPPED = {
    "repeated": "the same crop is in another part, too",
    "subset": "not in --subset",
    "excluded": "named by a list of --exclude",
    "in_test_set": "like a picture of --test-sets",
    "copy": "a copy of a sample that stays",
}
# bits, where copies are kept
_FAMILY_RADIUS = 6
# dropped samples written at once
_BATCH = 1 << 16


@dataclass(frozen=True)
class Dropped:
    """Samples that are not published, for one reason.

    keys: (D,).  because: the list, test set or subset that decided; for copies (D,), the key that stays of each.
    """

    reason: str
    keys: NDArray[np.bytes_]
    because: str | NDArray[np.bytes_]


@dataclass(frozen=True)
class ListUse:
    """How much an exclusion list did. entries: what it names; samples: of the parts, those it names."""

    uri: str
    entries: int
    samples: int


@dataclass(frozen=True)
class Selection:
    """What is published.

    rows: `rows.ROW`, in key order.  family: (N,) key of the family of copies each belongs to.
    """

    rows: NDArray[np.void]
    family: NDArray[np.bytes_]
    dropped: tuple[Dropped, ...]
    lists: tuple[ListUse, ...]

    def counts(self) -> dict[str, int]:
        """How many samples were dropped for each reason."""
        counts: dict[str, int] = {}
        for one in self.dropped:
            counts[one.reason] = counts.get(one.reason, 0) + len(one.keys)
        return {reason: count for reason, count in sorted(counts.items()) if count}

    def dropped_tables(self) -> Iterator[pa.Table]:
        """Columns key, reason, because; some thousands of rows at a time."""
        import pyarrow as pa

        for one in self.dropped:
            for start in range(0, len(one.keys), _BATCH):
                keys = one.keys[start : start + _BATCH].astype("U").tolist()
                because = one.because
                kept = because if isinstance(because, str) else because[start : start + _BATCH].astype("U").tolist()
                columns = {
                    "key": keys,
                    "reason": [one.reason] * len(keys),
                    "because": [kept] * len(keys) if isinstance(kept, str) else kept,
                }
                yield pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def select(catalogue: Catalogue, config: ExportConfig) -> Selection:
    """Apply the subset, the exclusion lists, the contamination gate and the search for copies, in this order.

    Raises:
        QueryError: a bad subset.
        ExportError: a list that cannot be used, or nothing is left.
        ExclusionError: an exclusion list that cannot be used.
    """
    lists = [Exclusion.read(uri) for uri in config.exclude]
    rows = read_rows(catalogue, config, lists)
    rows = rows[np.argsort(rows["key"], kind="stable")]
    dropped: list[Dropped] = []

    def drop(out: NDArray[np.bool_], reason: str, because: str) -> None:
        nonlocal rows
        if out.any():
            dropped.append(Dropped(reason, rows["key"][out], because))
            rows = rows[~out]

    drop(_repeated(rows, catalogue), "repeated", "the same crop in another part")
    drop(~rows["in_subset"], "subset", config.subset)
    uses, left = [], np.ones(len(rows), bool)
    for number, one in enumerate(lists):
        # also what an earlier list names, so that no list seems to name nothing
        named = _named(rows, number, one)
        uses.append(ListUse(one.uri, len(one), int(named.sum())))
        dropped.append(Dropped("excluded", rows["key"][named & left], public_name(one.uri)))
        left &= ~named
    rows = rows[left]
    for name, uri in config.test_sets.items():
        drop(near_any(rows["phash"], test_hashes(uri), max(config.dedupe_distance, 0)), "in_test_set", name)
    radius = config.dedupe_distance if config.dedupe_distance >= 0 else _FAMILY_RADIUS
    root = connected_components(rows["phash"], [rows["sha256"]], radius)
    family = rows["key"][root]
    if config.dedupe_distance >= 0:
        copy = root != np.arange(len(rows))
        if copy.any():
            dropped.append(Dropped("copy", rows["key"][copy], family[copy]))
        rows, family = rows[~copy], family[~copy]
    if not len(rows):
        raise ExportError("nothing is left to export; loosen --subset, --exclude or --test-sets")
    return Selection(rows, family, tuple(dropped), tuple(uses))


def _repeated(rows: NDArray[np.void], catalogue: Catalogue) -> NDArray[np.bool_]:
    """Which rows, in key order, are the same crop as another; of them the one with the smallest address stays."""
    same = rows["key"][1:] == rows["key"][:-1]
    out = np.zeros(len(rows), bool)
    shared = np.flatnonzero(np.append(same, False)[: len(rows)] | np.append(False, same)[: len(rows)])
    if not len(shared):
        return out
    uris: dict[int, list[str]] = {}
    for part in np.unique(rows["part"][shared]).tolist():
        uris[part] = kept_rows(catalogue.parts[part], ())["uri"].to_pylist()
    named = sorted(
        (rows["key"][place], uris[int(rows["part"][place])][int(rows["row"][place])], place)
        for place in shared.tolist()
    )
    last = None
    for key, _, place in named:
        out[place] = key == last
        last = key
    return out


def _named(rows: NDArray[np.void], number: int, listed: Exclusion) -> NDArray[np.bool_]:
    """Which rows an exclusion list names."""
    by_name = (rows["listed"] >> np.uint64(number)) & np.uint64(1) == 1
    return by_name | near_any(rows["phash"], listed.phash, RADIUS)


def test_hashes(uri: str) -> NDArray[np.uint64]:
    """Perceptual hashes of a test set: a parquet file with a column `phash`, or a folder of parts. Raises ExportError."""
    import pyarrow as pa

    if not uri.endswith(".parquet"):
        found = [perceptual_hashes(table) for table in read_catalogue([uri]).tables(["phash"])]
        return np.concatenate(found) if found else np.zeros(0, np.uint64)
    folder, _, name = uri.rpartition("/")
    try:
        table = load_table(Folder(folder or ".").read(name))
    except (OSError, pa.ArrowInvalid) as error:
        raise ExportError(f"{uri}: not a readable parquet file ({error})") from error
    if "phash" not in table.column_names:
        raise ExportError(f"{uri}: has no column phash")
    try:
        return np.array([parse_hash(value) for value in table["phash"].to_pylist() if value], np.uint64)
    except ValueError as error:
        raise ExportError(f"{uri}: column phash: {error}") from error


def near_any(hashes: NDArray[np.uint64], others: NDArray[np.uint64], radius: int) -> NDArray[np.bool_]:
    """Which hashes lie within `radius` bits of one of the others; 0, a flat picture's, lies near nothing. (N,), (M,) -> (N,)."""
    out = np.zeros(len(hashes), bool)
    for other in np.unique(others[others != 0]):
        out |= np.bitwise_count(hashes ^ other) <= radius
    return out & (hashes != 0)
