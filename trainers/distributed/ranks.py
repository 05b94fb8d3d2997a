"""The processes of a run: one plain process, `torchrun`, or Ray Train; gloo on CPUs, nccl on GPUs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

log = logging.getLogger(__name__)
_LOOK_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class Ranks:
    """This process among the others."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files."""
        return self.rank == 0

    def all_reduce_mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over ranks; the same on all of them."""
        if self.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.world

    def broadcast(self, value: Any) -> Any:
        """The main rank's value, on every rank."""
        if self.world == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def all_gather(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank."""
        if self.world == 1:
            return [value]
        held: list[Any] = [None] * self.world
        dist.all_gather_object(held, value)
        return held

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def init_process_group() -> Iterator[Ranks]:
    """Join the ranks that RANK and WORLD_SIZE name (torchrun and Ray Train set them); alone without.

    A process group that is there already (Ray Train's) is used and left alone.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    local = int(os.environ.get("LOCAL_RANK", 0))
    # Ray Train's workers without GPUs, on a machine with some
    gloo = dist.is_initialized() and dist.get_backend() == "gloo"
    device = torch.device("cpu")
    if torch.cuda.is_available() and not gloo:
        device = torch.device("cuda", local % torch.cuda.device_count())
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    elif world == 1:
        yield Ranks(0, 1, device)
    else:
        _end_with_launcher()
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield Ranks(rank, world, device)
        finally:
            dist.destroy_process_group()


def _end_with_launcher() -> None:
    """End this rank soon after the process that started it is gone, however that ended.

    A killed torchrun cannot stop its ranks. They would go on, and a second start would train in the same folder beside them.
    """
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(_LOOK_EVERY)
        log.error("the launcher, process %d, has ended: this rank ends too", launcher)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch launcher").start()
