"""Ranks on this machine, without a launcher: forked from a server that has imported torch once for all of them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable

from torch.multiprocessing import start_processes

# Takes effect when the server starts, which is with the first ranks.
multiprocessing.set_forkserver_preload(["handface.trainers.trainer"])


def start_ranks(run: Callable[..., None], world: int, *arguments: object) -> None:
    """Call run(*arguments) on so many ranks, as torchrun sets their environment, and wait. Raises what one of them raises."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(_rank, (world, port, run, arguments), nprocs=world, start_method="forkserver")  # type: ignore[no-untyped-call]


def _rank(rank: int, world: int, port: int, run: Callable[..., None], arguments: tuple[object, ...]) -> None:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    os.environ.update(meeting, RANK=str(rank), LOCAL_RANK=str(rank), OMP_NUM_THREADS="1")
    run(*arguments)
