"""Work units: the plan is a pure function of listing and config, survives on disk, and costs the driver little memory."""

from __future__ import annotations

import errno
import gzip
import json
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.storage import Folder, StorageError
from handface.pipeline.engine.units import INDEX, PLAN, Unit, UnitRef, cut, plan_units, read_plan, read_unit

ITEMS = st.builds(
    SourceItem,
    uri=st.text(min_size=1, max_size=20),
    member=st.none() | st.text(max_size=8),
    offset=st.none() | st.integers(0, 1 << 50),
    size=st.none() | st.integers(0, 1 << 40),
    columns=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=9)), max_size=3).map(tuple),
    problem=st.none() | st.sampled_from(list(Reason)),
    detail=st.text(max_size=20),
)


def listing(count: int) -> list[SourceItem]:
    return [SourceItem(f"photos/{i}.jpg", columns=(("author", f"a{i}"),)) for i in range(count)]


@settings(max_examples=30, deadline=None)
@given(items=st.lists(ITEMS, max_size=23), size=st.integers(1, 9))
def test_plan_on_disk_gives_every_input_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, items: list[SourceItem], size: int
) -> None:
    folder = Folder(str(tmp_path_factory.mktemp("plan")))
    refs = plan_units(items, folder, size, "config")
    assert read_plan(folder) == refs
    units = [read_unit(folder, ref) for ref in refs]
    assert [item for unit in units for item in unit.items] == items
    assert all(len(unit.items) == size for unit in units[:-1])
    assert len({unit.id for unit in units}) == len(units)


def test_replanning_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (Folder(str(tmp_path / name)) for name in "ab")
    plan_units(iter(listing(50)), first, 8, "config")
    plan_units(iter(listing(50)), second, 8, "config")
    assert first.read(PLAN) == second.read(PLAN)
    assert first.read(INDEX) == second.read(INDEX)


def test_ids_depend_on_inputs_and_config() -> None:
    ids = [unit.id for unit in cut(listing(20), 5, "config")]
    assert [unit.id for unit in cut(listing(20), 5, "another config")] != ids
    assert [unit.id for unit in cut(listing(21), 5, "config")][:4] == ids  # appending leaves earlier units alone
    assert not {unit.id for unit in cut(reversed(listing(20)), 5, "config")} & set(ids)


def test_a_list_that_repeats_itself_has_a_unit_for_each_repeat() -> None:
    units = list(cut(listing(5) * 3, 5, "config"))
    assert len({unit.id for unit in units}) == 3
    assert all(unit.items == units[0].items for unit in units)


def test_plan_is_readable_by_people(tmp_path: Path) -> None:
    plan_units(listing(3), Folder(str(tmp_path)), 2, "config")
    lines = [json.loads(line) for line in gzip.decompress((tmp_path / PLAN).read_bytes()).splitlines()]
    assert [line.get("uri") for line in lines] == [None, "photos/0.jpg", "photos/1.jpg", None, "photos/2.jpg"]


def test_unfinished_plan_does_not_count_and_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield from listing(30)
        raise ConnectionError("listing broke off")

    folder = Folder(str(tmp_path))
    with pytest.raises(ConnectionError, match="listing broke off"):
        plan_units(broken(), folder, 8, "config")  # type: ignore[arg-type]
    assert read_plan(folder) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_leftovers_of_a_killed_planner_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / ".tmp-units.jsonl.gz.abc").write_bytes(b"half")
    plan_units(listing(3), Folder(str(tmp_path)), 2, "config")
    assert sorted(path.name for path in (tmp_path / "plan").iterdir()) == ["units.jsonl.gz", "units.parquet"]


def test_damaged_plan_is_named(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    refs = plan_units(listing(20), folder, 5, "config")
    plan = tmp_path / PLAN
    plan.write_bytes(plan.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"units\.jsonl\.gz is damaged at byte"):
        read_unit(folder, refs[-1])
    with pytest.raises(ValueError, match="disagree about unit"):
        read_unit(folder, UnitRef("0" * 16, refs[0].offset, refs[0].length, 5))


def test_full_disk_while_planning_names_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", _no_space)
    with pytest.raises(StorageError, match=r"plan/units\.jsonl\.gz: No space left .* run the same command again"):
        plan_units(listing(3), Folder(str(tmp_path)), 2, "config")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_planning_streams(tmp_path: Path) -> None:
    """60,000 inputs: memory stays near one unit's, and a million would take well under a minute."""
    tracemalloc.start()
    start = time.process_time()  # not the clock's, which other programs lengthen
    refs = plan_units((SourceItem(f"https://h/{i}.jpg") for i in range(60_000)), Folder(str(tmp_path)), 128, "config")
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(ref.inputs for ref in refs) == 60_000
    assert peak < 8 << 20  # the listing as objects would be above 20 MB
    assert seconds < 30  # tracemalloc makes it several times slower


def test_plans_live_on_object_stores_too() -> None:
    folder = Folder("memory://units-test/out")
    refs = plan_units(listing(20), folder, 8, "config")
    assert read_plan(folder) == refs
    assert read_unit(folder, refs[1]) == Unit(refs[1].id, tuple(listing(20)[8:16]))


def _no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
