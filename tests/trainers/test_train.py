"""Whole runs in this process: what they write, how they go on, what they refuse, and what they do when a loss is not finite."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.model.weights.checkpoint import is_trained, load_dice
from handface.model.weights.named import load_network
from handface.trainers.build import build_network
from handface.trainers.config import OptimConfig, PriorsRun, TrainConfig
from handface.trainers.data import AugmentConfig, DatasetConfig, make_loader
from handface.trainers.distributed.ranks import Ranks
from handface.trainers.losses import LossConfig, LossStarts, LossWeights, label_counts
from handface.trainers.optim import EMA, clip, lr_factor
from handface.trainers.priors import PriorSource, RealConfig
from handface.trainers.run_folder import checkpoint
from handface.trainers.run_folder.checkpoint import CheckpointError
from handface.trainers.step import TrainStep
from handface.trainers.trainer import NotFiniteError, train
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
    lines = [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if "loss" in line}


def losses(config: TrainConfig) -> dict[int, dict[str, float]]:
    """The log without times."""
    return {step: {k: v for k, v in line.items() if not k.startswith("time/")} for step, line in logged(config).items()}


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
            assert line[name] == pytest.approx(value, rel=2e-3, abs=1e-4), f"{name} in step {step}"


def test_going_on_repeats_what_an_undisturbed_run_does(make_run: MakeRun) -> None:
    whole = make_run("whole", steps=6)
    train(whole)
    half = make_run("half", steps=4)
    train(half)
    train(replace(half, steps=6))
    assert losses(replace(half, steps=6)) == losses(whole)
    ends = [load_dice(Path(run.output) / "last").state_dict() for run in (whole, half)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    saved = [newest(run) for run in (whole, half)]
    assert saved[0]["data"] == saved[1]["data"] and saved[0]["data"]["position"] == 24


def test_sigterm_ends_a_run_after_a_whole_step_that_is_saved(make_run: MakeRun) -> None:
    calm, config = make_run("calm", steps=4, checkpoint_every=100), make_run("ended", steps=4, checkpoint_every=100)
    train(calm)
    with pytest.raises(SystemExit) as ended:
        train(config, lambda step, values: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None)
    assert ended.value.code == 143
    assert [path.stem for path in checkpoints(config)][-1].endswith("2")
    train(config)
    assert losses(config) == losses(calm)


def test_the_log_loses_what_a_killed_start_wrote_after_its_checkpoint(make_run: MakeRun) -> None:
    config = make_run(steps=4)
    train(config)
    before = losses(config)
    with (Path(config.output) / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 1.0}\n{"step": 6, "lo')
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
    make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    whole = make_run("whole", steps=6)
    train(whole)
    config = make_run()
    train(config)
    last = checkpoints(config)[-1]
    last.write_bytes(last.read_bytes()[:1000])
    train(replace(config, steps=6))
    assert "step-000000004.pt: damaged" in caplog.text and "going back to the checkpoint before" in caplog.text
    assert losses(replace(config, steps=6)) == losses(whole)
    assert last.with_name(last.name + ".broken").stat().st_size == 1000
    assert [path.name for path in checkpoints(config)] == ["step-000000004.pt", "step-000000006.pt"]


def test_where_every_checkpoint_is_damaged_nothing_is_removed(make_run: MakeRun) -> None:
    config = make_run()
    train(config)
    for path in checkpoints(config):
        path.write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"none of step-000000004\.pt, step-000000002\.pt can be read.*--init"):
        train(replace(config, steps=6))
    kept = Path(config.output) / checkpoint.FOLDER
    assert sorted(path.name for path in kept.iterdir()) == ["step-000000002.pt.broken", "step-000000004.pt.broken"]


def test_half_written_checkpoints_do_not_count_and_are_removed_at_the_next_start(make_run: MakeRun) -> None:
    config = make_run()
    train(config)
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


def test_another_configuration_does_not_go_on(make_run: MakeRun) -> None:
    config = make_run()
    train(config)
    before = [path.read_bytes() for path in checkpoints(config)]
    for changes, named in (
        ({"optim": replace(config.optim, lr=0.5)}, r"optim\.lr was 0\.0001, is 0\.5"),
        ({"preset": "dice-nano"}, "preset was 'dice-s', is 'dice-nano'"),
        ({"loss": LossConfig(LossWeights(touch=0, collision=0, vertices=1))}, r"loss\.weights\.vertices was 1000\.0"),
        ({"data": replace(config.data, seed=5)}, r"data\.seed was 0, is 5"),
    ):
        with pytest.raises(CheckpointError, match=f"{named}.*--output ANOTHER --init .*run/last"):
            train(replace(config, **changes))
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


def checkpoints(config: TrainConfig) -> list[Path]:
    """Those that resuming looks at, oldest first."""
    folder = Path(config.output) / checkpoint.FOLDER
    return [folder / name for name in checkpoint.list_checkpoints(config.output)]


def newest(config: TrainConfig) -> dict[str, object]:
    """What the newest checkpoint holds."""
    found: dict[str, object] = torch.load(checkpoints(config)[-1], weights_only=True)
    return found


def spoil(monkeypatch: pytest.MonkeyPatch, *steps: int, times: int = 1000) -> None:
    """Make the term `vertices` NaN in some steps, so many times in all."""
    honest, left = TrainStep.losses, [times]

    def losses(self, step, batch, *rest):  # type: ignore[no-untyped-def]
        terms, output = honest(self, step, batch, *rest)
        if step in steps and left[0] > 0:
            left[0] -= 1
            terms["vertices"] = terms["vertices"] * float("nan")
        return terms, output

    monkeypatch.setattr(TrainStep, "losses", losses)


def test_a_loss_that_is_not_finite_is_named_and_passed_over(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, 3)
    config = make_run(steps=6, checkpoint_every=2)
    assert train(config).steps == 6
    (line,) = [json.loads(text) for text in (Path(config.output) / "not_finite.jsonl").read_text().splitlines()]
    assert (line["step"], line["terms"], len(line["keys"])) == (3, ["vertices"], 4)
    assert set(logged(config)) == {1, 2, 3, 5, 6}  # step 3 is the fourth
    assert all(np.isfinite(list(values.values())).all() for values in logged(config).values())


def test_too_many_of_them_end_the_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, 1, 2, 3)
    with pytest.raises(NotFiniteError, match=r"step 3: vertices not finite; samples .*went back 2 times already"):
        train(make_run(steps=6, rollbacks=2))


def test_gradients_that_are_not_finite_are_seen(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = TrainStep.losses

    def losses(self, step, batch, *rest):  # type: ignore[no-untyped-def]
        terms, output = honest(self, step, batch, *rest)
        if step == 1:  # sqrt at 0: a finite value with an infinite slope
            terms["vertices"] = terms["vertices"] + (output.camera[0, 0] * 0).sqrt()
        return terms, output

    monkeypatch.setattr(TrainStep, "losses", losses)
    config = make_run()
    train(config)
    assert json.loads((Path(config.output) / "not_finite.jsonl").read_text())["terms"] == ["gradient"]


def step_of(config: TrainConfig) -> TrainStep:
    return TrainStep(build_network(config), config, Ranks(0, 1, torch.device("cpu")))


def first_batch(config: TrainConfig):  # type: ignore[no-untyped-def]
    return next(iter(make_loader(config.data)))


def test_a_frozen_backbone_stays_and_thaws(make_run: MakeRun) -> None:
    config = make_run(optim=OptimConfig(lr=1e-3, warm_up=0, freeze_backbone=1))
    trainer, batch = step_of(config), first_batch(config)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer(0, [batch])
    moved = {name for name, value in trainer.network.state_dict().items() if not torch.equal(value, before[name])}
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
    assert newest(config)["data"]["position"] == 2 * 2 * 4


def test_three_batches_of_four_are_one_of_twelve_however_labels_are_spread(make_run: MakeRun, shard: Path) -> None:
    """Labelled and wild 1 : 2, so that a micro-batch may have one label or none. Norms as in use: theirs are of a micro-batch."""
    sets = (DatasetConfig("studio", (str(shard),)), DatasetConfig("wild", (str(shard),), weight=2, weak=True))
    config = make_run(batch_size=12)
    config = replace(config, data=replace(config.data, datasets=sets, seed=1))
    batch = first_batch(config)
    parts = [batch[start : start + 4] for start in (0, 4, 8)]
    assert len({int(part.has_mesh.sum()) for part in parts}) > 1, "choose another seed"
    found = []
    for batches in ([batch], parts):
        step = step_of(config)
        step.network.train = lambda mode=True, network=step.network: type(network).train(network, False)  # type: ignore[method-assign]
        result = step(0, batches)
        found.append((result, {name: p.grad for name, p in step.network.named_parameters()}))
    (whole, gradients), (split, others) = found
    assert whole.terms.keys() == split.terms.keys()
    for name, value in whole.terms.items():
        assert float(split.terms[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-6), name
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name)


def test_the_counts_known_before_a_step_are_those_of_the_losses(make_run: MakeRun, shard: Path) -> None:
    sets = (DatasetConfig("studio", (str(shard),)), DatasetConfig("wild", (str(shard),), weak=True))
    config = make_run(batch_size=8, loss=LossConfig())
    config = replace(config, data=replace(config.data, datasets=sets))
    step, batch, seen = step_of(config), first_batch(config), {}
    honest = step.objective.forward

    def forward(output, posed, truth, reduce_counts, number):  # type: ignore[no-untyped-def]
        def keep(names, counts):  # type: ignore[no-untyped-def]
            seen.update(zip(names, counts.tolist(), strict=True))
            return reduce_counts(names, counts)

        return honest(output, posed, truth, keep, number)

    step.objective.forward = forward  # type: ignore[method-assign]
    step(0, [batch])
    known = {name: float(count) for name, count in label_counts(batch).items()}
    assert seen.keys() - known.keys() == {"touch"}
    assert known["depth"] >= seen["depth"]
    assert {name: seen[name] for name in known if name != "depth"} == {n: c for n, c in known.items() if n != "depth"}


def test_the_samples_of_every_step_are_logged_on_request(make_run: MakeRun) -> None:
    config = make_run(log_samples=True, log_every=4)
    train(config)
    train(replace(config, steps=6))
    lines = [json.loads(line) for line in (Path(config.output) / "samples-0.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    keys = [key for batch in islice(make_loader(config.data), 6) for key in batch.keys]
    assert [key for line in lines for key in line["keys"]] == keys


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
    config = make_run(loss=LossConfig(LossWeights(touch=0, collision=0), LossStarts(depth=2)))
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
    found = [lr_factor(step, 102, config) for step in (0, 1, 2, 52, 97)]
    assert found == pytest.approx(expected, abs=0.01)


def test_the_warm_up_is_short_in_a_short_run() -> None:
    assert [OptimConfig().warm_up_of(steps) for steps in (10, 100, 5_000, 100_000)] == [0, 5, 250, 500]
    assert OptimConfig(warm_up=7).warm_up_of(100_000) == 7
    assert lr_factor(0, 10, OptimConfig(schedule="constant")) == 1


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
    average = EMA(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    expected = 0.0
    for step in range(1, 40):
        average.update(module)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay)
        assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-5)
