"""The engine: the same bytes for any number of workers, failing units reported and the others done, clusters left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from handface.pipeline.contract.parts import read_parts
from handface.pipeline.contract.storage import Folder, StorageError
from handface.pipeline.crawl.rounds import Crawl, CrawlConfig
from handface.pipeline.engine.executor import execute, group_stages
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.run import finished_of, prepare
from handface.pipeline.engine.run_record import ConfigMismatchError
from handface.pipeline.engine.stage import Resources
from handface.pipeline.engine.units import UnitRef, plan_small_units
from handface.pipeline.engine.worker import StageGroup, Task, UnitResult, UnitWorker, WorkItem
from handface.pipeline.stages.depth import DepthConfig
from handface.pipeline.stages.filters.nsfw import NsfwConfig
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


def test_input_that_always_fails_ends_alone_with_its_error(tmp_path: Path) -> None:
    output, marks = tmp_path / "out", tmp_path / "marks"
    marks.mkdir()
    results = toy_run(output, Once(marks, at=42, act="raise", times=1000), local=True)
    assert [result.error for result in results] == [None] * 10
    rows = {row["uri"]: row for part in read_parts(str(output)) for row in part.rows().to_pylist()}
    failed = rows.pop("toy://input/42")
    assert (failed["reason"], failed["stage"], failed["detail"]) == (
        "failed",
        "trouble",
        "RuntimeError: toy trouble at 42",
    )
    assert len(list(marks.iterdir())) == 3  # tries of the input: with its batch, and twice alone
    toy_run(tmp_path / "undisturbed", local=True)
    undisturbed = {
        row["uri"]: row for part in read_parts(str(tmp_path / "undisturbed")) for row in part.rows().to_pylist()
    }
    assert undisturbed.pop("toy://input/42")["kept"]
    assert {uri: row["key"] for uri, row in rows.items()} == {uri: row["key"] for uri, row in undisturbed.items()}
    assert toy_run(output, Once(marks, at=42, act="raise", times=0), local=True) == []  # it is not asked again


def test_unit_that_always_fails_is_reported_and_the_others_go_on(tmp_path: Path, ray_cluster: None) -> None:
    output = tmp_path / "out"

    def start(times: int, local: bool) -> list[UnitResult]:
        stages = [Once(tmp_path, at=0, act="all", times=times), ToyPack()]
        run = prepare(["toy"], CONFIG, str(output), list_inputs=lambda: items(90), stages=lambda c, d: stages)
        return list(execute(run, workers=2, local=local))

    results = start(times=1, local=False)
    failed = [result for result in results if result.error]
    assert len(results) == len(failed) == 9
    assert "stage trouble failed for each of" in str(failed[0].error) and "toy trouble" in str(failed[0].error)
    stats = [json.loads(line) for path in (output / "stats").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert {line["unit"] for line in stats if "error" in line} == {result.unit for result in failed}
    again = start(times=0, local=True)
    assert {result.unit for result in again} == {result.unit for result in failed}
    assert all(result.error is None for result in again)


def tars(files: dict[str, bytes]) -> list[bytes]:
    return sorted(data for name, data in files.items() if name.endswith(".tar"))


def test_trouble_that_passes_is_not_seen_outside(tmp_path: Path, expected: dict[str, bytes]) -> None:
    output = tmp_path / "out"
    results = toy_run(output, Once(tmp_path, at=42, act="raise", times=2), local=True)
    assert [result.error for result in results] == [None] * 10
    assert tars(parts_of(output)) == tars(expected)


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


def test_parts_and_a_crawl_do_not_share_a_folder(tmp_path: Path) -> None:
    toy_run(tmp_path / "parts", local=True)
    before = sorted(path.name for path in (tmp_path / "parts").iterdir())
    crawl = Crawl(str(tmp_path / "parts"), CrawlConfig(), ("x",))
    for begin in (crawl.check, lambda: crawl.open(0, lambda: items(5))):
        with pytest.raises(ConfigMismatchError, match="holds the parts of another command"):
            begin()
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == before
    (tmp_path / "crawl").mkdir()
    (tmp_path / "crawl/crawl.json").write_text('{"rounds": []}')
    with pytest.raises(ConfigMismatchError, match="holds a crawl"):
        prepare(["toy"], CONFIG, str(tmp_path / "crawl"), list_inputs=lambda: items(5), stages=build_stages)
    with pytest.raises(ConfigMismatchError, match="holds a crawl"):
        finished_of(["toy"], lambda: CONFIG, str(tmp_path / "crawl"), stages=build_stages)


def test_a_run_made_with_other_libraries_is_refused_by_name_with_advice(tmp_path: Path) -> None:
    toy_run(tmp_path, local=True)
    path = tmp_path / "run.json"
    record = json.loads(path.read_text())
    assert set(record["libraries"]) == {"numpy", "opencv", "pillow", "simplejpeg"}
    other = record["libraries"] | {"opencv": "4.10.0.84", "openvino": "2024.4"}
    path.write_text(json.dumps(record | {"libraries": other}))
    now = record["libraries"]["opencv"]
    said = rf"opencv was 4\.10\.0\.84, is {now}, openvino was 2024\.4, is absent.*pip install 'opencv-contrib-python==4\.10\.0\.84'"
    with pytest.raises(ConfigMismatchError, match=said):
        toy_run(tmp_path, local=True)
    # A run of before versions were kept binds nobody to any.
    del record["libraries"]
    path.write_text(json.dumps(record))
    assert toy_run(tmp_path, local=True) == []


def test_a_worker_with_other_libraries_does_nothing_and_says_which(tmp_path: Path) -> None:
    run = prepare(["toy"], CONFIG, str(tmp_path), list_inputs=lambda: items(5), stages=lambda c, d: toy_stages())
    run.task = replace(run.task, libraries=run.task.libraries | {"numpy": "1.26.4"})
    (result,) = execute(run, workers=1, local=True)
    assert result.fatal and "numpy is" in str(result.error) and "not 1.26.4" in str(result.error)
    assert not list(tmp_path.glob("part-*"))


def test_the_detectors_runtime_is_part_of_a_run() -> None:
    stages = {stage.name: stage for stage in build_stages(CONFIG, "2026-01-01")}
    assert "openvino" in stages["detect"].libraries and "openvino" not in stages["crop"].libraries


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


@pytest.mark.parametrize(("share", "sizes"), [(0.0, [8] * 12 + [4]), (0.25, [64, 36])])
def test_a_stage_on_a_gpu_gets_many_pictures_at_once(tmp_path: Path, share: float, sizes: list[int]) -> None:
    seen = []

    class Counts(ToyFilter):
        def __call__(self, batch: Sequence[Record]) -> None:
            seen.append(len(batch))

    group = StageGroup((Counts(),), Resources(num_cpus=1, num_gpus=share), last=False)
    worker = UnitWorker(group, Task(Folder(str(tmp_path)), "f", ("filter",), "start"))
    done = worker.work(WorkItem(UnitRef("unit", 0, 0, 100), [Record(item) for item in items(100)]))
    assert isinstance(done, WorkItem) and done.error is None and seen == sizes


def test_stage_that_needs_what_the_cluster_lacks_is_named(tmp_path: Path, ray_cluster: None) -> None:
    with pytest.raises(ValueError, match=r"stages greedy need Resources\(num_cpus=1, num_gpus=64\)"):
        toy_run(tmp_path, ToyFilter("greedy", Resources(num_cpus=1, num_gpus=64)))


def test_a_funnel_shows_no_stage_that_is_off(tmp_path: Path) -> None:
    """With the default settings three of them have nothing to do."""
    plain = prepare(["toy"], CONFIG, str(tmp_path / "plain"), list_inputs=lambda: items(5), stages=build_stages)
    asked = replace(CONFIG, nsfw=NsfwConfig(0.8), depth=DepthConfig(fastdepth=True))
    whole = prepare(["toy"], asked, str(tmp_path / "whole"), list_inputs=lambda: items(5), stages=build_stages)
    names = [stage.name for stage in plain.stages]
    assert [name for name in names if name not in plain.task.stages] == ["nsfw", "keypoints", "depth"]
    assert [name for name in names if name not in whole.task.stages] == ["keypoints"]
    # a run of before goes on: the stages are part of what makes a run the same
    assert set(json.loads((tmp_path / "plain" / "run.json").read_text())["stages"]) == set(names)


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


def test_a_local_run_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    import cv2

    before, threads = dict(os.environ), cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        os.environ["OMP_NUM_THREADS"] = "7"
        toy_run(tmp_path, local=True)
        assert (os.environ["OMP_NUM_THREADS"], cv2.getNumThreads()) == ("7", 3)
        assert {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} == {
            k: v for k, v in before.items() if k != "OMP_NUM_THREADS"
        }
    finally:
        cv2.setNumThreads(threads)
        os.environ.pop("OMP_NUM_THREADS")
        os.environ.update(before)


def test_short_listings_are_cut_small_and_long_ones_are_not(tmp_path: Path) -> None:
    sizes = {}
    for count in (3, 20, 300, 3000, 5000):
        refs = plan_small_units(items(count), Folder(str(tmp_path / str(count))), 128, "f")
        assert sum(ref.inputs for ref in refs) == count
        sizes[count] = refs[0].inputs
    assert sizes == {3: 3, 20: 8, 300: 10, 3000: 94, 5000: 128}
    refs = plan_small_units(items(300), Folder(str(tmp_path / "small")), 4, "f")
    assert {ref.inputs for ref in refs} == {4}  # what was asked for is the most
