"""Two real processes: the discriminators stay equal on all ranks and learn what one process with all samples would; rows are gathered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from handface.model.network.config import RELEASED_SIZES
from handface.trainers.metrics import Records, gather
from handface.trainers.priors import AdversarialPriors, PriorInput, PriorsConfig, RealParameters
from tests.trainers.ranks import start_ranks

STEPS, BATCH = 3, 8


def _train(rank: int, world: int) -> tuple[AdversarialPriors, torch.Tensor]:
    """A few steps of both sides; returns the priors and the generator's last loss."""
    torch.manual_seed(0)
    priors = AdversarialPriors(RELEASED_SIZES, PriorsConfig(r1=1.0))
    judge = DistributedDataParallel(priors) if world > 1 else priors
    optimiser = torch.optim.SGD(priors.parameters(), 1e-3)
    rng = np.random.default_rng(0)
    hands, heads = (rng.normal(size=(50, width)).astype(np.float32) for width in (55, 153))
    real = RealParameters([(hands, 1.0)], [(heads, 1.0)])
    count = BATCH // world
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        rows = slice(rank * count, (rank + 1) * count)
        hand, head = (torch.randn(BATCH, width, generator=generator)[rows] for width in (55, 153))
        fake = PriorInput(hand.requires_grad_(True), head.requires_grad_(True))
        loss = torch.stack(list(priors.generator_loss(fake).values())).sum()
        loss.backward()
        optimiser.zero_grad()
        judge(fake, real.sample(step, count, rank, world)).loss.backward()
        optimiser.step()
    return priors, loss.detach()


def _worker(folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    priors, _ = _train(rank, dist.get_world_size())
    mine = Records((f"k{rank}", "shared"), {"pve": np.array([float(rank), 7.0])})
    whole = gather(mine)
    assert whole.keys == ("k0", "k1", "shared") and whole.columns["pve"].tolist() == [0, 1, 7]
    torch.save(priors.state_dict(), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_learn_what_one_would(tmp_path: Path) -> None:
    start_ranks(_worker, 2, str(tmp_path))
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    alone, _ = _train(0, 1)
    for name, value in alone.named_parameters():
        assert first[name].equal(second[name]), name
        torch.testing.assert_close(first[name], value.detach(), atol=1e-6, rtol=1e-4)
