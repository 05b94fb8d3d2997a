"""Small exchanges between ranks in the middle of a step."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

Gather = Callable[[torch.Tensor], torch.Tensor]
"""(n,) on each rank -> (world, n), the same on all ranks; to be called by all of them."""

_PATIENCE = 1800.0  # seconds, as long as a process group waits


def between_ranks() -> Gather:
    """What ranks on CPUs exchange a few numbers with. All ranks call it, once the process group is there.

    Ranks of one machine get sockets to each other: gloo hands a message from thread to thread, and where ranks compute on all cores those
    threads wait for their turn, milliseconds for what a socket brings in a twentieth of one. Ranks on several machines use the group.
    """
    folder = tempfile.mkdtemp(prefix="handface-ranks-") if dist.get_rank() == 0 else ""
    held = [(folder, socket.gethostname())]
    dist.broadcast_object_list(held, src=0)
    folder, host = held[0]
    here = torch.tensor(float(host == socket.gethostname() and Path(folder).exists()))
    dist.all_reduce(here, dist.ReduceOp.MIN)
    try:
        return _over_sockets(_meet(Path(folder))) if here else over_group
    finally:
        if dist.get_rank() == 0:
            shutil.rmtree(folder)


def over_group(values: torch.Tensor) -> torch.Tensor:
    """A `Gather` by the process group."""
    held = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(held, values)
    return torch.stack(held)


def _meet(folder: Path) -> dict[int, socket.socket]:
    """A connection to every other rank, through sockets in a folder that only this user can enter."""
    rank, world = dist.get_rank(), dist.get_world_size()
    peers = {}
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / str(rank)))
        door.listen(world)
        dist.barrier()
        for other in range(rank):
            peers[other] = socket.socket(socket.AF_UNIX)
            peers[other].connect(str(folder / str(other)))
            peers[other].sendall(rank.to_bytes(4))
        for _ in range(rank + 1, world):
            peer, _ = door.accept()
            peers[int.from_bytes(peer.recv(4, socket.MSG_WAITALL))] = peer
        dist.barrier()
    for peer in peers.values():
        peer.settimeout(_PATIENCE)
    return peers


def _over_sockets(peers: dict[int, socket.socket]) -> Gather:
    rank, world = dist.get_rank(), len(peers) + 1

    def gather(values: torch.Tensor) -> torch.Tensor:
        held = values.new_empty(world, len(values))
        held[rank] = values
        for other, peer in peers.items():
            with _missed(other):
                peer.sendall(held[rank].numpy().data)
        for other, peer in peers.items():
            with _missed(other):
                _fill(held[other].numpy().data.cast("B"), peer)
        return held

    return gather


def _fill(view: memoryview, peer: socket.socket) -> None:
    while view:
        count = peer.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]


@contextmanager
def _missed(other: int) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise ConnectionError(
            f"rank {other} has gone, or hangs, in the middle of a step; its own log says why"
        ) from error
