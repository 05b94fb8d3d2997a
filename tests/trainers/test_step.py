"""Steps of training: losses that are not finite, frozen parts, micro-batches, starts of losses, rates, clipping and the average."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.pipeline.contract.sample import DEPTH_KINDS
from handface.trainers.build import build_network
from handface.trainers.config import OptimConfig, PriorsRun, TrainConfig
from handface.trainers.data import AugmentConfig, DatasetConfig, make_loader
from handface.trainers.distributed.ranks import Ranks
from handface.trainers.losses import LossConfig, LossStarts, LossWeights, label_counts
from handface.trainers.losses.config import DepthLossConfig
from handface.trainers.optim import EMA, clip, lr_factor
from handface.trainers.priors import PriorSource, RealConfig
from handface.trainers.step import TrainStep
from handface.trainers.trainer import NotFiniteError, train
from tests.trainers.conftest import MakeRun
from tests.trainers.runs import logged, losses, newest

pytestmark = pytest.mark.usefixtures("one_thread")


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
    totals = [float(sum(trainer(step, [batch]).terms.values())) for step in range(25)]
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
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-4 * largest, msg=name)


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


@pytest.mark.parametrize(
    ("form", "counts"),
    [("silog", [1, 0, 0, 0]), ("affine", [1, 1, 0, 0]), ("robust-affine", [1, 1, 0, 0]), ("ordinal", [1, 1, 0, 1])],
)
def test_depth_is_divided_by_the_samples_that_its_form_can_compare(
    make_run: MakeRun, form: str, counts: list[int]
) -> None:
    """Of one kind for all; relative within a part; the same with too few points in either part; fewer points than the others ask for."""
    batch = first_batch(make_run(batch_size=4))
    depth = torch.rand(4, 89, 2, generator=torch.Generator().manual_seed(3))
    depth[..., 1] = 1
    depth[2, 5:, 1] = 0
    depth[2, :5, 0] = 0.5  # and none behind another
    depth[3, 3:, 1] = 0
    kinds = [DEPTH_KINDS.index(kind) for kind in ("metric", "affine-per-part", "affine-per-part", "metric")]
    batch = replace(
        batch,
        keypoint_depth=depth,
        depth_kind=torch.tensor(kinds),
        visibility=torch.ones(4, 89),
        has_mesh=torch.zeros(4, dtype=torch.bool),
    )
    for row, expected in enumerate(counts):
        one = replace(batch, visibility=batch.visibility * (torch.arange(4) == row)[:, None])
        assert float(label_counts(one, DepthLossConfig(form=form))["depth"]) == expected, row


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
