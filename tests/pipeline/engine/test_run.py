"""The engine: the same bytes for any number of workers, failing units reported and the others done, clusters left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from handface.pipeline.contract.parts import read_parts
from handface.pipeline.contract.storage import StorageError
from handface.pipeline.engine.record import Resources
from handface.pipeline.engine.run import execute, group_stages, prepare
from handface.pipeline.engine.run_record import ConfigMismatchError
from handface.pipeline.stages.recipe import AnnotateConfig, build_stages
from tests.pipeline.toy_stages import CONFIG, Once, ToyFilter, ToyPack, items, parts_of, toy_run, toy_stages

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The parts of an undisturbed run in this process."""
    folder = tmp_path_factory.mktemp("expected")
    assert all(result.error is None for result in toy_run(folder, local=True))
    return parts_of(folder)


def test_every_input_ends_in_exactly_one_part(tmp_path: Path) -> None:
    toy_run(tmp_path, local=True)
    rows = [row for part in read_parts(str(tmp_path)) for row in part.rows().to_pylist()]
    assert sorted(row["uri"] for row in rows) == sorted(item.uri for item in items(95))
    assert {row["stage"] for row in rows if row["reason"] == "missing_column"} == {"list"}
    assert sum(row["kept"] for row in rows) == sum(len(list(part.samples())) for part in read_parts(str(tmp_path)))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same_bytes(
    tmp_path: Path, ray_cluster: None, expected: dict[str, bytes], workers: int
) -> None:
    results = toy_run(tmp_path, workers=workers, seconds=0.002)
    assert len(results) == 10
    assert parts_of(tmp_path) == expected


@pytest.mark.slow
def test_stages_with_other_resources_form_further_pools(tmp_path: Path, ray_cluster: None) -> None:
    other = ToyFilter(name="other", resources=Resources(num_cpus=0.5))
    results = toy_run(tmp_path / "ray", other)
    toy_run(tmp_path / "local", other, local=True)
    assert len(results) == 10
    assert {"filter", "other", "pack", "write"} <= set(results[0].seconds)  # timings survive the journey
    assert parts_of(tmp_path / "ray") == parts_of(tmp_path / "local")


def test_unit_that_always_fails_is_reported_and_the_others_go_on(tmp_path: Path, ray_cluster: None) -> None:
    output, marks = tmp_path / "out", tmp_path / "marks"
    marks.mkdir()
    results = toy_run(output, Once(marks, at=42, act="raise", times=1000))
    (failed,) = [result for result in results if result.error]
    assert len(results) == 10
    assert "toy trouble at 42 (in stage trouble, on one of: toy://input/40" in str(failed.error)
    assert "RuntimeError" in failed.trace
    assert len(list(marks.iterdir())) == 3  # bounded
    stats = [json.loads(line) for path in (output / "stats").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert {line["unit"] for line in stats if "error" in line} == {failed.unit}

    (again,) = toy_run(output, Once(marks, at=42, act="raise", times=0), local=True)
    assert again.unit == failed.unit and again.error is None
    toy_run(tmp_path / "undisturbed", Once(marks, at=42, act="raise", times=0), local=True)
    assert parts_of(output) == parts_of(tmp_path / "undisturbed")


def test_trouble_that_passes_is_not_seen_outside(tmp_path: Path, expected: dict[str, bytes]) -> None:
    output = tmp_path / "out"
    results = toy_run(output, Once(tmp_path, at=42, act="raise", times=2), local=True)
    assert [result.error for result in results] == [None] * 10
    assert {name: data for name, data in parts_of(output).items() if name.endswith(".tar")} == {
        name: data for name, data in expected.items() if name.endswith(".tar")
    }


def test_stage_that_cannot_be_set_up_stops_the_run_with_its_message(tmp_path: Path) -> None:
    results = toy_run(tmp_path / "out", Once(tmp_path, at=0, act="setup"), local=True)
    assert len(results) == 1
    assert results[0].fatal
    assert "cannot set up stage trouble: FileNotFoundError: weights of toy are missing" in str(results[0].error)


def test_resume_does_only_what_is_left(tmp_path: Path, expected: dict[str, bytes]) -> None:
    toy_run(tmp_path, local=True)
    assert toy_run(tmp_path, local=True) == []
    lost = sorted(path for path in tmp_path.glob("part-*.json"))[3]
    lost.unlink()
    (result,) = toy_run(tmp_path, local=True)
    assert lost.name == f"part-{result.unit}.json"
    assert parts_of(tmp_path) == expected


def test_resume_keeps_the_day_of_the_first_start(tmp_path: Path) -> None:
    days = []

    def start() -> None:
        prepare(
            ["toy"],
            CONFIG,
            str(tmp_path),
            list_inputs=lambda: items(5),
            stages=lambda config, day: [*toy_stages()] if days.append(day) is None else [],
        )

    start()
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | {"day": "2020-02-29"}))
    start()
    assert days[1] == "2020-02-29"


def test_another_config_in_the_same_folder_is_refused_by_name(tmp_path: Path) -> None:
    toy_run(tmp_path, local=True)
    other = AnnotateConfig(unit_size=20, pack=type(CONFIG.pack)(jpeg_quality=80))
    with pytest.raises(ConfigMismatchError, match=r"pack\.jpeg_quality was 92, is 80, unit_size was 10, is 20"):
        prepare(["toy"], other, str(tmp_path), list_inputs=lambda: items(5), stages=build_stages)
    with pytest.raises(ConfigMismatchError, match=r"input was \['toy'\], is \['elsewhere'\]"):
        prepare(["elsewhere"], CONFIG, str(tmp_path), list_inputs=lambda: items(5), stages=build_stages)


def test_output_that_cannot_be_written_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OSError, match="out"):
        toy_run(tmp_path / "out", local=True)
    assert issubclass(StorageError, OSError)


def test_neighbours_with_equal_resources_share_a_group() -> None:
    gpu = Resources(num_cpus=1, num_gpus=0.5)
    stages = [ToyFilter("a"), ToyFilter("b"), ToyFilter("c", gpu), ToyPack()]
    groups = group_stages(stages)
    assert [[stage.name for stage in group.stages] for group in groups] == [["a", "b"], ["c"], ["pack"]]
    assert [group.last for group in groups] == [False, False, True]


def test_stage_that_needs_what_the_cluster_lacks_is_named(tmp_path: Path, ray_cluster: None) -> None:
    with pytest.raises(ValueError, match=r"stages greedy need Resources\(num_cpus=1, num_gpus=64\)"):
        toy_run(tmp_path, ToyFilter("greedy", Resources(num_cpus=1, num_gpus=64)))


def test_the_real_stages_in_order() -> None:
    names = [stage.name for stage in build_stages(AnnotateConfig(), day="2026-01-01")]
    assert names[:3] == ["read", "decode", "dedupe"]
    assert names.index("detect") < names.index("contact") < names.index("crop") < names.index("pack")
    assert names[-1] == "pack"


def test_local_runs_without_importing_ray(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.pipeline.toy_stages import toy_run; "
        f"toy_run(Path({str(tmp_path)!r}), local=True); sys.exit('ray' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode
        == 0
    )
    assert len(list(tmp_path.glob("part-*.json"))) == 10


def test_nothing_pending_needs_no_cluster(tmp_path: Path) -> None:
    toy_run(tmp_path, local=True)
    run = prepare(["toy"], CONFIG, str(tmp_path), list_inputs=lambda: items(95), stages=lambda c, d: toy_stages())
    assert list(execute(run, workers=2)) == []
    assert (run.finished.parts, run.finished.inputs) == (10, 95)
