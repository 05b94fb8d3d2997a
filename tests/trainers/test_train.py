"""Whole runs in this process: what they write, how they go on, what they refuse, and what they do when a loss is not finite."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.model.weights.checkpoint import is_trained, load_dice
from handface.trainers import checkpoint
from handface.trainers.checkpoint import CheckpointError
from handface.trainers.config import OptimConfig, PriorsRun, TrainConfig
from handface.trainers.data import AugmentConfig, DatasetConfig
from handface.trainers.distributed.ranks import Ranks
from handface.trainers.losses import LossConfig, LossWeights
from handface.trainers.optim import Average, clip, rate
from handface.trainers.priors import PriorSource, RealConfig
from handface.trainers.step import TrainStep
from handface.trainers.train import NotFiniteError, build_network, train
from tests.trainers.conftest import MakeRun

GOLDEN = Path(__file__).parent / "golden_losses.json"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def logged(config: TrainConfig) -> dict[int, dict[str, float]]:
    """{step: training values} of a run's log."""
    lines = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if "loss" in line}


def losses(config: TrainConfig) -> dict[int, dict[str, float]]:
    """The log without times."""
    return {step: {k: v for k, v in line.items() if not k.startswith("time/")} for step, line in logged(config).items()}


def test_a_run_writes_weights_logs_checkpoints_and_its_configuration(make_run: MakeRun, shard: Path) -> None:
    config = make_run(validation=(DatasetConfig("held", (str(shard),), limit=4),), optim=OptimConfig(lr=1e-4, ema=0.9))
    result = train(config)
    assert (result.steps, result.metric) == (4, "pve") and result.best is not None and 0 < result.best < 1e4
    for name in ("best", "last"):
        assert is_trained(config.output / name) and load_dice(config.output / name).config.preset == "narrow"
    assert json.loads((config.output / "best" / "training.json").read_text())["metric"] == "pve"
    assert TrainConfig.loads((config.output / "config.json").read_text()) == config
    assert list((config.output / "tensorboard").iterdir())
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
            assert line[name] == pytest.approx(value, rel=2e-3, abs=1e-4), f"{name} in step {step}"


def test_going_on_repeats_what_an_undisturbed_run_does(make_run: MakeRun) -> None:
    whole = make_run("whole", steps=6)
    train(whole)
    half = make_run("half", steps=4)
    train(half)
    train(replace(half, steps=6))
    assert losses(replace(half, steps=6)) == losses(whole)
    ends = [load_dice(run.output / "last").state_dict() for run in (whole, half)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    saved = [torch.load(checkpoint.newest(run.output), weights_only=True) for run in (whole, half)]  # type: ignore[arg-type]
    assert saved[0]["data"] == saved[1]["data"] and saved[0]["data"]["position"] == 24


def test_the_log_loses_what_a_killed_start_wrote_after_its_checkpoint(make_run: MakeRun) -> None:
    config = make_run(steps=4)
    train(config)
    before = losses(config)
    with (config.output / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 1.0}\n{"step": 6, "lo')
    train(replace(config, steps=5))
    after = losses(config)
    assert {step: after[step] for step in before} == before and after[5]["loss"] != 1.0


def test_checkpoints_are_few_and_load_without_running_anything(make_run: MakeRun) -> None:
    config = make_run(steps=6, checkpoint_every=1, keep=2)
    train(config)
    folder = config.output / checkpoint.FOLDER
    assert [p.name for p in sorted(folder.iterdir())] == ["step-000000005.pt", "step-000000006.pt"]
    state = torch.load(folder / "step-000000006.pt", weights_only=True)
    assert {"network", "optimizer", "progress", "data", "config"} <= set(state)


def test_a_damaged_checkpoint_is_named(make_run: MakeRun) -> None:
    config = make_run()
    train(config)
    newest = checkpoint.newest(config.output)
    assert newest is not None
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"step-000000004\.pt: cannot be resumed from"):
        train(replace(config, steps=6))
    newest.unlink()
    train(replace(config, steps=6))  # from the one before


def test_half_written_checkpoints_do_not_count(make_run: MakeRun) -> None:
    config = make_run()
    train(config)
    (config.output / checkpoint.FOLDER / ".step-000000009.pt.77").write_bytes(b"half")
    assert checkpoint.newest(config.output).name == "step-000000004.pt"  # type: ignore[union-attr]


def test_another_configuration_does_not_go_on(make_run: MakeRun) -> None:
    config = make_run()
    train(config)
    with pytest.raises(CheckpointError, match=r"optim\.lr 0\.5 != 0\.0001"):
        train(replace(config, optim=replace(config.optim, lr=0.5)))
    with pytest.raises(CheckpointError, match="resume is 'never'"):
        train(replace(config, resume="never"))


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


def spoil(monkeypatch: pytest.MonkeyPatch, *steps: int, times: int = 1000) -> None:
    """Make the term `vertices` NaN in some steps, so many times in all."""
    honest, left = TrainStep.losses, [times]

    def losses(self, step, batch):  # type: ignore[no-untyped-def]
        terms, output = honest(self, step, batch)
        if step in steps and left[0] > 0:
            left[0] -= 1
            terms["vertices"] = terms["vertices"] * float("nan")
        return terms, output

    monkeypatch.setattr(TrainStep, "losses", losses)


def test_a_loss_that_is_not_finite_is_named_and_passed_over(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, 3)
    config = make_run(steps=6, checkpoint_every=2)
    assert train(config).steps == 6
    (line,) = [json.loads(text) for text in (config.output / "not_finite.jsonl").read_text().splitlines()]
    assert (line["step"], line["terms"], len(line["keys"])) == (3, ["vertices"], 4)
    assert set(logged(config)) == {1, 2, 3, 5, 6}  # step 3 is the fourth
    assert all(np.isfinite(list(values.values())).all() for values in logged(config).values())


def test_too_many_of_them_end_the_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, 1, 2, 3)
    with pytest.raises(NotFiniteError, match=r"step 3: vertices not finite; samples .*went back 2 times already"):
        train(make_run(steps=6, rollbacks=2))


def test_gradients_that_are_not_finite_are_seen(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = TrainStep.losses

    def losses(self, step, batch):  # type: ignore[no-untyped-def]
        terms, output = honest(self, step, batch)
        if step == 1:  # sqrt at 0: a finite value with an infinite slope
            terms["vertices"] = terms["vertices"] + (output.camera[0, 0] * 0).sqrt()
        return terms, output

    monkeypatch.setattr(TrainStep, "losses", losses)
    config = make_run()
    train(config)
    assert json.loads((config.output / "not_finite.jsonl").read_text())["terms"] == ["gradient"]


def step_of(config: TrainConfig) -> TrainStep:
    return TrainStep(build_network(config), config, Ranks(0, 1, torch.device("cpu")))


def first_batch(config: TrainConfig):  # type: ignore[no-untyped-def]
    from handface.trainers.data import make_loader

    return next(iter(make_loader(config.data)))


def test_a_frozen_backbone_stays_and_thaws(make_run: MakeRun) -> None:
    config = make_run(optim=OptimConfig(lr=1e-3, warm_up=0, freeze_backbone=1))
    trainer, batch = step_of(config), first_batch(config)
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    trainer(0, [batch])
    moved = {name for name, value in trainer.network.named_parameters() if not torch.equal(value, before[name])}
    assert moved and not any(name.startswith("backbone.") for name in moved)
    trainer(1, [batch])
    assert any(
        name.startswith("backbone.") and not torch.equal(value, before[name])
        for name, value in trainer.network.named_parameters()
    )


@pytest.mark.slow
def test_a_loss_falls_when_the_same_samples_come_again(make_run: MakeRun) -> None:
    config = make_run(optim=OptimConfig(lr=3e-3, warm_up=5, schedule="constant", clip_value=None))
    config = replace(config, data=replace(config.data, augment=AugmentConfig.none()))
    trainer, batch = step_of(config), first_batch(config)
    totals = [float(sum(trainer(step, [batch]).terms.values())) for step in range(40)]
    assert np.mean(totals[-3:]) < 0.4 * totals[0]


def test_accumulated_batches_are_one_step(make_run: MakeRun) -> None:
    config = make_run(optim=OptimConfig(lr=1e-4, accumulate=2), steps=2)
    train(config)
    saved = torch.load(checkpoint.newest(config.output), weights_only=True)  # type: ignore[arg-type]
    assert saved["data"]["position"] == 2 * 2 * 4


def test_priors_play_along(make_run: MakeRun, shard: Path) -> None:
    source = (PriorSource(str(shard)),)
    config = make_run(priors=PriorsRun(RealConfig(hand=source, head=source), lr=1e-3))
    train(config)
    line = logged(config)[4]
    for part in ("hand", "head"):
        assert line[f"adversarial_{part}"] > 0 and line[f"discriminator_{part}"] > 0
        assert 0 <= line[f"priors/{part}_accuracy"] <= 1
    again = make_run("again", priors=config.priors, steps=2)
    train(again)
    train(replace(again, steps=4))
    assert losses(replace(again, steps=4)) == losses(config)  # the discriminators' state is in the checkpoint


def test_depth_counts_from_its_step_on(make_run: MakeRun, shard: Path) -> None:
    wild = DatasetConfig("wild", (str(shard),), weak=True)
    config = make_run(depth_from=2, loss=LossConfig(LossWeights(touch=0, collision=0)))
    config = replace(config, data=replace(config.data, datasets=(wild,)))
    train(config)
    depth = [logged(config)[step]["depth"] for step in (1, 2, 3, 4)]
    assert depth[:2] == [0, 0] and min(depth[2:]) > 0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [0.5, 1, 1, 1, 1]), ("step", [0.5, 1, 1, 0.1, 0.1]), ("cosine", [0.5, 1, 1, 0.505, 0.0199])],
)
def test_learning_rates(schedule: str, expected: list[float]) -> None:
    config = OptimConfig(warm_up=2, schedule=schedule)  # type: ignore[arg-type]
    found = [rate(step, 102, config) for step in (0, 1, 2, 52, 97)]
    assert found == pytest.approx(expected, abs=0.01)


def test_the_warm_up_is_short_in_a_short_run(make_run: MakeRun) -> None:
    assert [OptimConfig().warm_up_of(steps) for steps in (10, 100, 5_000, 100_000)] == [0, 5, 250, 500]
    assert rate(0, 10, OptimConfig(schedule="constant")) == 1
    short, long = (make_run(steps=steps, optim=OptimConfig(schedule="constant")) for steps in (100, 200))
    assert short.differences(long) == ["steps 100 != 200"]  # it changes the rate of the steps that were done
    fixed = [replace(run, optim=replace(run.optim, warm_up=5)) for run in (short, long)]
    assert fixed[0].differences(fixed[1]) == []


def test_pictures_of_another_size_are_refused(make_run: MakeRun) -> None:
    config = make_run()
    with pytest.raises(ValueError, match=r"image_size is 96, but .* sees 64 pixels"):
        train(replace(config, data=replace(config.data, image_size=96)))


def test_clipping_bounds_entries_and_norm_and_tells_what_was() -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.tensor([3.0, -4.0, 0.0, 0.1])
    assert float(clip([weight], OptimConfig(clip_value=0.3))) == pytest.approx(25.01**0.5)
    assert weight.grad.tolist() == pytest.approx([0.3, -0.3, 0.0, 0.1])
    clip([weight], OptimConfig(clip_value=None, clip_norm=0.1))
    assert float(weight.grad.norm()) == pytest.approx(0.1, rel=1e-4)


def test_the_average_warms_up_and_follows() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = Average(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    expected = 0.0
    for step in range(1, 40):
        average.update(module)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay)
        assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-5)
