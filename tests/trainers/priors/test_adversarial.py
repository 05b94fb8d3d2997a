"""Adversarial training: known values of the losses, who gets gradients, equal ranks, alarms."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from handface.model.network.config import RELEASED_SIZES
from handface.model.network.heads import BodyParameters
from handface.model.network.topology import PartSizes
from handface.trainers.priors import AdversarialPriors, PriorInput, PriorsConfig
from handface.trainers.priors.adversarial import jaw_columns
from handface.trainers.priors.discriminator import Discriminator, discriminator_loss, generator_loss, r1_penalty
from handface.trainers.priors.monitor import COLLAPSED, QUIET, WINS, AlarmConfig, Monitor


def _fill(module: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def _inputs(batch: int = 4, seed: int = 0) -> PriorInput:
    generator = torch.Generator().manual_seed(seed)
    return PriorInput(torch.randn(batch, 55, generator=generator), torch.randn(batch, 153, generator=generator))


def test_released_sizes() -> None:
    priors = AdversarialPriors(RELEASED_SIZES)
    shapes = {name: tuple(p.shape) for name, p in priors.named_parameters() if name.endswith("weight")}
    assert sorted(shapes.values()) == sorted([(256, 55), (64, 256), (1, 64), (256, 153), (64, 256), (1, 64)])


def test_losses_at_known_logits() -> None:
    real, fake = torch.tensor([0.0, math.log(3)]), torch.tensor([0.0, -math.log(3)])
    # sigmoid: 1/2 and 3/4 for real, 1/2 and 1/4 for fake
    expected = -(math.log(0.5) + math.log(0.75)) / 2
    assert discriminator_loss(real, fake, "gan").item() == pytest.approx(2 * expected)
    assert generator_loss(fake, "gan").item() == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2)
    assert discriminator_loss(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), "lsgan").item() == 0.25 + 1.0
    assert generator_loss(torch.tensor([1.0, 3.0]), "lsgan").item() == 1.0


def test_weights_of_the_released_training() -> None:
    priors = AdversarialPriors(RELEASED_SIZES)
    _fill(priors, 0.0)  # every logit is 0, D is 1/2
    terms = priors.generator_loss(_inputs())
    assert {name: round(value.item(), 4) for name, value in terms.items()} == {
        "adversarial_hand": round(20 * math.log(2), 4),
        "adversarial_head": round(20 * math.log(2), 4),
    }
    result = priors(_inputs(), _inputs(seed=1))
    assert result.loss.item() == pytest.approx((3 + 1) * 20 * 2 * math.log(2))
    assert result.terms["discriminator_hand"].item() == pytest.approx(2 * math.log(2))


def test_features_take_the_jaw_where_the_convention_has_it() -> None:
    priors = AdversarialPriors(RELEASED_SIZES)
    pose = torch.arange(6.0)[None]
    empty, ones = torch.zeros(1, 0), torch.ones(1, 10)
    hand = BodyParameters(ones, empty, 2 * torch.ones(1, 45), torch.zeros(1, 3), torch.zeros(1, 3))
    head = BodyParameters(torch.ones(1, 100), 3 * torch.ones(1, 50), pose, torch.zeros(1, 3), torch.zeros(1, 3))
    found = priors.features(hand, head)
    assert found.hand.tolist() == [[2.0] * 45 + [1.0] * 10]
    assert found.head.tolist() == [[3.0, 4.0, 5.0] + [3.0] * 50 + [1.0] * 100]  # root first in Decaf's, jaw second
    free = PartSizes((9, 3), 68, 100, 12, 51, "free-head", "free")
    assert jaw_columns(free) == slice(3, 6)  # neck, jaw, eyes
    with pytest.raises(ValueError, match="no jaw"):
        jaw_columns(PartSizes((9, 3), 68, 100, 7, 51, "x", "decaf"))


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_each_side_trains_only_itself(spectral_norm: bool) -> None:
    priors = AdversarialPriors(RELEASED_SIZES, PriorsConfig(spectral_norm=spectral_norm))
    fake = _inputs()
    fake.hand.requires_grad_(True)
    fake.head.requires_grad_(True)
    sum(priors.generator_loss(fake).values()).backward()  # type: ignore[union-attr]
    assert fake.hand.grad is not None and fake.hand.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in priors.parameters())
    assert all(parameter.requires_grad for parameter in priors.parameters())
    fake.hand.grad = None
    priors(fake, _inputs(seed=1)).loss.backward()
    assert fake.hand.grad is None
    assert all(parameter.grad is not None for parameter in priors.parameters())


def test_generator_loss_gradient_is_that_of_the_formula() -> None:
    priors = AdversarialPriors(RELEASED_SIZES).double()
    hand = torch.randn(3, 55, dtype=torch.float64, requires_grad=True)
    judge = priors.discriminators["hand"]

    def loss(values: torch.Tensor) -> torch.Tensor:
        return priors.generator_loss(PriorInput(values, torch.zeros(3, 153).double()))["adversarial_hand"]

    assert torch.autograd.gradcheck(loss, hand)
    assert loss(hand).item() == pytest.approx(20 * -judge(hand).sigmoid().log().mean().item())


def test_r1_known_value_and_gradient() -> None:
    # a linear judge w x has slope w everywhere: R1 = |w|^2 / 2, and its gradient is w
    weight = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    values = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty(values @ weight, values)
    assert penalty.item() == pytest.approx(12.5)
    penalty.backward()
    assert weight.grad is not None and weight.grad.tolist() == pytest.approx([3.0, 4.0])


def test_r1_of_an_mlp_against_finite_differences() -> None:
    torch.manual_seed(0)
    judge = Discriminator(4, (8, 6)).double()
    values = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    step = 1e-6
    slopes = [
        (judge(values + step * axis) - judge(values - step * axis)) / (2 * step) for axis in torch.eye(4).double()
    ]
    expected = 0.5 * torch.stack(slopes, 1).square().sum(1).mean().item()
    assert r1_penalty(judge(values), values).item() == pytest.approx(expected, rel=1e-6)
    priors = AdversarialPriors(RELEASED_SIZES, PriorsConfig(r1=10.0))
    result = priors(_inputs(), _inputs(seed=1))
    assert {"discriminator_hand_r1", "discriminator_head_r1"} <= result.terms.keys()
    result.loss.backward()
    assert all(parameter.grad is not None for name, parameter in priors.named_parameters() if "weight" in name)


def test_spectral_norm_bounds_every_layer() -> None:
    judge = Discriminator(55, spectral_norm=True)
    _scaled = [layer for layer in judge.layers if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for layer in _scaled:
            layer.parametrizations.weight.original.mul_(100)  # type: ignore[union-attr]
    for _ in range(50):
        judge(torch.randn(8, 55))
    judge.eval()
    for layer in _scaled:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.02)


def test_a_discriminator_learns_to_tell_and_the_alarm_says_so(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    config = PriorsConfig(alarm=AlarmConfig(momentum=0.9, warm_up=10))
    priors = AdversarialPriors(RELEASED_SIZES, config)
    optimiser = torch.optim.AdamW(priors.parameters(), lr=1e-3)
    for step in range(60):
        real, fake = _inputs(16, 2 * step), _inputs(16, 2 * step + 1)
        fake = PriorInput(fake.hand + 3, fake.head + 3)
        optimiser.zero_grad()
        priors(fake, real).loss.backward()
        optimiser.step()
    with caplog.at_level(logging.WARNING, "trainers"):
        found = priors.metrics(step=60)
        priors.metrics(step=61)  # said once
    assert found["priors/hand_alarm"] == WINS and found["priors/hand_accuracy"] > 0.97
    assert found["priors/head_real"] > 0.9 > 0.1 > found["priors/head_fake"]
    assert [record.message.split(":")[0] for record in caplog.records] == ["step 60", "step 60"]
    assert "hand discriminator wins" in caplog.text


def test_monitor_means_and_collapse() -> None:
    monitor = Monitor("hand", "gan", AlarmConfig(momentum=0.5, warm_up=3))
    assert monitor.read() == {}
    real, fake = torch.tensor([0.1, -0.1]), torch.tensor([0.1, -0.1])
    monitor.update(real, fake)
    first = monitor.read()
    assert first == {"real": pytest.approx(0.5), "fake": pytest.approx(0.5), "accuracy": 0.5, "alarm": QUIET}
    monitor.update(torch.tensor([5.0]), torch.tensor([-5.0]))
    # weights 1/4 and 1/2 of a step with accuracy 0.5 and one with 1, over 3/4
    assert monitor.read()["accuracy"] == pytest.approx((0.5 / 4 + 1 / 2) / 0.75)
    for _ in range(20):
        monitor.update(real, fake)
    assert monitor.read()["alarm"] == COLLAPSED
    again = Monitor("hand", "gan", AlarmConfig(momentum=0.5, warm_up=3))
    again.load_state_dict(monitor.state_dict())
    assert again.read() == monitor.read()


def test_bad_configs_and_widths() -> None:
    with pytest.raises(ValueError, match="negative"):
        PriorsConfig(weight=-1)
    with pytest.raises(ValueError, match="momentum"):
        AlarmConfig(momentum=1)
    with pytest.raises(ValueError, match=r"\(B, 55\), not \(2, 54\)"):
        Discriminator(55)(torch.zeros(2, 54))
