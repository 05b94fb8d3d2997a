"""Whole runs in this process: what they write, how they go on and what they refuse."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handface.model.weights.checkpoint import is_trained, load_dice
from handface.model.weights.named import load_network
from handface.trainers.config import OptimConfig, PriorsRun, TrainConfig
from handface.trainers.data import AugmentConfig, DataConfig, DatasetConfig
from handface.trainers.losses import LossConfig, LossWeights
from handface.trainers.priors import PriorSource, RealConfig
from handface.trainers.run_folder import checkpoint
from handface.trainers.run_folder.checkpoint import CheckpointError
from handface.trainers.run_folder.paths import absolute_paths
from handface.trainers.run_folder.resume import check_resume, check_run
from handface.trainers.trainer import train
from tests.trainers.conftest import MakeRun, runs_in
from tests.trainers.runs import checkpoints, logged, losses, newest

GOLDEN = Path(__file__).parent / "golden_losses.json"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def once(
    tmp_path_factory: pytest.TempPathFactory, narrow_weights: Path, shard: Path, one_thread: None
) -> dict[int, TrainConfig]:
    """{steps: an undisturbed run of so many}, to look at."""
    make = runs_in(tmp_path_factory.mktemp("once"), narrow_weights, shard)
    made = {steps: make(f"of{steps}", steps=steps) for steps in (4, 6)}
    for config in made.values():
        train(config)
    return made


@pytest.fixture
def four(once: dict[int, TrainConfig], tmp_path: Path) -> TrainConfig:
    """An undisturbed run of four steps, to do something to."""
    return replace(once[4], output=str(shutil.copytree(once[4].output, tmp_path / "run")))


def test_a_run_writes_weights_logs_checkpoints_and_its_configuration(make_run: MakeRun, shard: Path) -> None:
    config = make_run(validation=(DatasetConfig("held", (str(shard),), limit=4),), optim=OptimConfig(lr=1e-4, ema=0.9))
    result = train(config)
    assert (result.steps, result.metric) == (4, "pve") and result.best is not None and 0 < result.best < 1e4
    for name in ("best", "last"):
        assert (
            is_trained(Path(config.output) / name) and load_dice(Path(config.output) / name).config.preset == "narrow"
        )
    note = json.loads((Path(config.output) / "best" / "training.json").read_text())
    assert note["metric"] == "pve" and note["from_random"]
    assert not load_network(Path(config.output) / "best").trained  # after four steps
    assert TrainConfig.loads((Path(config.output) / "config.json").read_text()) == config
    assert list((Path(config.output) / "tensorboard").iterdir())
    values = logged(config)
    assert set(values) == {1, 2, 3, 4}
    terms = {name for name in values[4] if "/" not in name} - {"step", "loss", "rate", "gradient_norm"}
    assert {"vertices", "keypoints_2d_hand", "contact", "deformation", "presence"} <= terms
    for line in values.values():
        assert line["loss"] == pytest.approx(sum(line[name] for name in terms), rel=1e-5)
        assert 0 <= line["time/data_wait_share"] <= 1


def test_losses_are_those_that_were_recorded(make_run: MakeRun) -> None:
    """Delete the file and run this test after a change that is meant to change them: it writes it anew, and fails that once."""
    config = make_run(steps=3)
    train(config)
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(losses(config), indent=1) + "\n")
        pytest.fail(f"{GOLDEN.name} was not there and has been written: look at it and commit it")
    recorded = json.loads(GOLDEN.read_text())
    for step, line in losses(config).items():
        for name, value in recorded[str(step)].items():
            # rounding, which differs between processors, reaches the norm of fresh weights' gradients a thousandfold
            near = 0.1 if name == "gradient_norm" else 2e-3
            assert line[name] == pytest.approx(value, rel=near, abs=1e-4), f"{name} in step {step}"


def test_going_on_repeats_what_an_undisturbed_run_does(once: dict[int, TrainConfig], four: TrainConfig) -> None:
    whole, half = once[6], four
    train(replace(half, steps=6))
    assert losses(replace(half, steps=6)) == losses(whole)
    ends = [load_dice(Path(run.output) / "last").state_dict() for run in (whole, half)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    saved = [newest(run) for run in (whole, half)]
    assert saved[0]["data"] == saved[1]["data"] and saved[0]["data"]["position"] == 24


def test_sigterm_ends_a_run_after_a_whole_step_that_is_saved(make_run: MakeRun, once: dict[int, TrainConfig]) -> None:
    config = make_run("ended", steps=4, checkpoint_every=100)
    with pytest.raises(SystemExit) as ended:
        train(config, lambda step, values: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None)
    assert ended.value.code == 143
    assert [path.stem for path in checkpoints(config)][-1].endswith("2")
    train(config)
    assert losses(config) == losses(once[4])


def test_other_validation_samples_set_another_best(four: TrainConfig, shard: Path) -> None:
    held = (DatasetConfig("held", (str(shard),), limit=4),)
    config = replace(four, steps=5, validation=held)
    train(config)
    last = checkpoints(config)[-1]
    state = torch.load(last, weights_only=True)
    state["progress"]["best"] = -1.0  # lower than any error
    torch.save(state, last)
    more = replace(config, steps=6, validate_samples=3, data=replace(config.data, patience=7.0))
    assert check_resume(more, config.dumps(), last.name) == ["steps was 5, is 6", "validate_samples was 512, is 3"]
    result = train(more)
    assert result.best is not None and result.best > 0


def test_the_log_loses_what_a_killed_start_wrote_after_its_checkpoint(four: TrainConfig) -> None:
    config = four
    before = losses(config)
    with (Path(config.output) / "log.jsonl").open("a") as file:
        file.write('{"step": 1, broken}\n{"step": 5, "loss": 1.0}\n{"step": 6, "lo')
    train(replace(config, steps=5))
    after = losses(config)
    assert {step: after[step] for step in before} == before and after[5]["loss"] != 1.0


def test_checkpoints_are_few_and_load_without_running_anything(make_run: MakeRun) -> None:
    config = make_run(steps=6, checkpoint_every=1, keep=2)
    train(config)
    folder = Path(config.output) / checkpoint.FOLDER
    assert [p.name for p in sorted(folder.iterdir())] == ["step-000000005.pt", "step-000000006.pt"]
    state = torch.load(folder / "step-000000006.pt", weights_only=True)
    assert {"network", "optimizer", "progress", "data", "config"} <= set(state)


def test_a_cut_off_checkpoint_is_set_aside_and_the_one_before_is_taken(
    once: dict[int, TrainConfig], four: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    whole, config = once[6], four
    last = checkpoints(config)[-1]
    last.write_bytes(last.read_bytes()[:1000])
    train(replace(config, steps=6))
    assert "step-000000004.pt: damaged" in caplog.text and "going back to the checkpoint before" in caplog.text
    assert losses(replace(config, steps=6)) == losses(whole)
    assert last.with_name(last.name + ".broken").stat().st_size == 1000
    assert [path.name for path in checkpoints(config)] == ["step-000000004.pt", "step-000000006.pt"]


def test_a_disk_that_does_not_answer_says_nothing_about_a_checkpoint(
    four: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkpoints(four)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(OSError, match="Input/output error"):
        train(replace(four, steps=6))
    assert checkpoints(four) == before


def test_where_every_checkpoint_is_damaged_nothing_is_removed(four: TrainConfig) -> None:
    config = four
    for path in checkpoints(config):
        path.write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"none of step-000000004\.pt, step-000000002\.pt can be read.*--init"):
        train(replace(config, steps=6))
    kept = Path(config.output) / checkpoint.FOLDER
    assert sorted(path.name for path in kept.iterdir()) == ["step-000000002.pt.broken", "step-000000004.pt.broken"]


def test_half_written_checkpoints_do_not_count_and_are_removed_at_the_next_start(four: TrainConfig) -> None:
    config = four
    leftover = Path(config.output) / checkpoint.FOLDER / ".tmp-step-000000009.pt.77"
    leftover.write_bytes(b"half")
    assert checkpoints(config)[-1].name == "step-000000004.pt"
    train(replace(config, steps=5))
    assert not leftover.exists()


def test_a_full_disk_leaves_no_part_of_a_checkpoint(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_run(steps=2, checkpoint_every=2)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=50_000))
    with pytest.raises(OSError, match=r"checkpoints: a checkpoint needs \d+ MB and 0 MB are free; free some space"):
        train(config)
    assert list((Path(config.output) / checkpoint.FOLDER).iterdir()) == []

    class Full(io.RawIOBase):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        checkpoint._dump({"network": torch.zeros(9)}, Full())  # not torch's words about its file format


def test_another_configuration_does_not_go_on(four: TrainConfig) -> None:
    config = four
    before = [path.read_bytes() for path in checkpoints(config)]
    for changes, named in (
        ({"optim": replace(config.optim, lr=0.5)}, r"optim\.lr was 0\.0001, is 0\.5"),
        ({"preset": "dice-nano"}, "preset was 'dice-s', is 'dice-nano'"),
        ({"loss": LossConfig(LossWeights(touch=0, collision=0, vertices=1))}, r"loss\.weights\.vertices was 1000\.0"),
        ({"data": replace(config.data, seed=5)}, r"data\.seed was 0, is 5"),
    ):
        with pytest.raises(CheckpointError, match=f"{named}.*--output ANOTHER --init .*run/last"):
            train(replace(config, **changes))
        # and before anything is loaded
        with pytest.raises(CheckpointError, match=named):
            check_run(replace(config, **changes))
    more = (*config.data.datasets, replace(config.data.datasets[0], name="more"))
    said = f"the list of data sets was '{config.data.datasets[0].name}', is '{config.data.datasets[0].name}, more'. Set that back"
    with pytest.raises(CheckpointError, match=said):
        check_run(replace(config, data=replace(config.data, datasets=more)))
    check_run(replace(config, steps=9, output=f"{config.output}-fresh"))
    check_run(replace(config, steps=9))
    with pytest.raises(CheckpointError, match="resume is 'never'"):
        train(replace(config, resume="never"))
    assert [path.read_bytes() for path in checkpoints(config)] == before


def test_what_a_run_can_take_up_when_it_goes_on(make_run: MakeRun, shard: Path, tmp_path: Path) -> None:
    """Average, priors, validation, steps under another schedule than the constant one, and shards that lie elsewhere."""
    config = make_run(optim=OptimConfig(lr=1e-4, warm_up=2, schedule="step"))
    train(config)
    source = (PriorSource(str(shard)),)
    moved = shutil.copytree(shard.parent, tmp_path / "moved") / shard.name
    data = replace(config.data, datasets=(replace(config.data.datasets[0], shards=(str(moved),)),))
    longer = replace(
        config,
        steps=6,
        optim=replace(config.optim, ema=0.9),
        priors=PriorsRun(RealConfig(hand=source, head=source)),
        validation=(DatasetConfig("held", (str(shard),), limit=4),),
        data=data,
    )
    result = train(longer)
    assert result.steps == 6 and result.best is not None and set(logged(longer)) == {1, 2, 3, 4, 5, 6}
    assert {"ema", "discriminators"} <= set(newest(longer))
    # and back again
    assert train(replace(config, steps=7)).steps == 7


@pytest.mark.parametrize(
    ("name", "path", "refused"),
    [
        ("test", "out/a", True),
        ("held", "out/decaf_test", True),
        ("held", "out/test/shard-000.tar", True),
        ("held", "out/test-000.tar", True),
        ("latest", "out/contest", False),
        ("validation", "out/validation", False),
    ],
)
def test_the_checkpoint_is_not_chosen_on_a_test_split(make_run: MakeRun, name: str, path: str, refused: bool) -> None:
    sets = (DatasetConfig(name, (path,)),)
    if refused:
        with pytest.raises(ValueError, match="is a test split"):
            make_run(validation=sets)
    else:
        assert make_run(validation=sets).validation == sets


def test_every_path_of_a_run_means_the_same_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And may lie elsewhere when the run goes on, but for sources of priors, which are taken up, and the output itself."""
    monkeypatch.chdir(tmp_path)
    sets = (DatasetConfig("set", ("near/a", "s3://far/b"), exclude=("near/c",), found=("near/d",)),)
    source = (PriorSource("near/e"),)
    data = DataConfig(
        sets,
        hand_body="near/f.npz",
        head_body="free-head",
        index_folder="near/g",
        augment=AugmentConfig(backgrounds="near/h"),
    )
    config = TrainConfig(
        data=data,
        output="near/i",
        init="near/j",
        validation=sets,
        priors=PriorsRun(RealConfig(hand=source, head=source)),
    )
    text = absolute_paths(config).dumps()
    assert text.count("near/") == config.dumps().count("near/") == text.count(f'"{tmp_path}/near/')
    assert "s3://far/b" in text and '"free-head"' in text
    moved = TrainConfig.loads(text.replace(f"{tmp_path}/near/", "/elsewhere/"))
    assert not [
        told for told in check_resume(moved, text, "step-1.pt") if not told.startswith(("priors", "validation"))
    ]
