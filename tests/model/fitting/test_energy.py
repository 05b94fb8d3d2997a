"""What a fit minimises: its gradient is the cost's, and a step solves the whole system though it is taken in blocks."""

from __future__ import annotations

import pytest
import torch

from handface.model.bodies import load_body
from handface.model.fitting.config import Noise, Observations, Spread
from handface.model.fitting.energy import Energy, Quadratic
from handface.model.fitting.keypoint_body import FitParameters, KeypointBody
from handface.model.fitting.prior import Population
from handface.model.fitting.solve import RIDGE, minimise, newton_step

PEOPLE = 3
FAR = 1e4  # standard deviations: nothing is an outlier


@pytest.fixture(scope="module")
def energy() -> Energy:
    bodies = [load_body(f"free-{kind}", "free", dtype=torch.float64) for kind in ("hand", "head")]
    points = [KeypointBody(body, dtype=torch.float64) for body in bodies]
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def pixels(count: int) -> torch.Tensor:
        return torch.cat([200 + 60 * draw(PEOPLE, count, 2), draw(PEOPLE, count, 1).sigmoid()], 2)

    seen = Observations(
        pixels(68), pixels(21), torch.tensor([400.0, 500, 600]).double(), draw(PEOPLE, 2) + 200,
        0.05 * draw(PEOPLE, 21, 3), torch.zeros(PEOPLE, 89, 2).double(), torch.zeros(PEOPLE, dtype=torch.bool),
        torch.tensor([150.0, 160, 170]).double(),
    )  # fmt: skip
    guesses = [FitParameters(*(draw(PEOPLE, n) for n in (p.num_shape, p.num_pose, 3, 3))) for p in points]
    trust = torch.tensor([1.0, 0.5, 0.1]).double()
    priors = [Population(body, Spread()).with_guess(guess, trust) for body, guess in zip(bodies, guesses, strict=True)]
    return Energy(*points, seen, (priors[0], priors[1]), draw(PEOPLE), draw(PEOPLE).exp(), Noise())


def place(energy: Energy) -> torch.Tensor:
    """Variables at which both bodies stand before the camera."""
    x = 0.1 * torch.randn(
        PEOPLE, energy.hand.size + energy.head.size, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    x[:, [energy.hand.size - 1, -1]] += 0.8
    return x


def test_the_gradient_is_the_cost_s(energy: Energy) -> None:
    x = place(energy)
    gradient = energy(x, FAR).gradient
    for column in (0, 12, 40, energy.hand.size - 1, energy.hand.size + 3, energy.hand.size + 120, x.shape[1] - 1):
        step = torch.zeros_like(x)
        step[:, column] = 1e-6
        change = (energy(x + step, FAR).cost - energy(x - step, FAR).cost) / 2e-6
        torch.testing.assert_close(change, gradient[:, column], rtol=2e-5, atol=1e-5)


def test_a_step_in_blocks_is_the_step_of_the_whole_matrix(energy: Energy) -> None:
    here = energy(place(energy), FAR)
    damping = torch.tensor([1e-2, 1.0, 1e-4]).double()
    step, usable = newton_step(here, damping)
    whole = torch.stack([torch.block_diag(*blocks) for blocks in zip(*here.blocks, strict=True)])
    whole = whole + here.link[:, :, None] * here.link[:, None]
    diagonal = whole.diagonal(dim1=1, dim2=2)
    damped = whole + torch.diag_embed(damping[:, None] * diagonal + RIDGE * diagonal.amax(1, keepdim=True))
    assert usable.all()
    torch.testing.assert_close(torch.einsum("bij,bj->bi", damped, step), here.gradient, rtol=1e-6, atol=1e-6)


def test_a_matrix_that_is_none_stops_its_problem_and_no_other() -> None:
    def bowl(x: torch.Tensor) -> Quadratic:
        curve = torch.tensor([1.0, -1.0])[:, None, None] * torch.eye(2)
        ones = (torch.eye(1).expand(2, 1, 1), curve)
        return Quadratic(x.square().sum(1) / 2, x, ones, torch.zeros_like(x))

    x, cost = minimise(bowl, torch.ones(2, 3), 10)
    assert cost[0] < 1e-6, "the bowl is left at its lowest point"
    assert torch.equal(x[1], torch.ones(3)) and cost[1] == 1.5, "nowhere to go: it stays"
