"""Real processes, torchrun's and Ray's: ranks together do what one does alone, and a run that is killed ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from handface.jobs import train as verb
from handface.model.weights.checkpoint import load_dice
from handface.trainers.config import OptimConfig, TrainConfig
from handface.trainers.distributed.batchnorm import RankBatchNorm, all_gather, convert_norms
from handface.trainers.run_folder.checkpoint import CheckpointError
from handface.trainers.trainer import train
from tests.pipeline.conftest import ray_cluster
from tests.trainers.conftest import MakeRun, runs_in
from tests.trainers.norm_ranks import norm_rank
from tests.trainers.ranks import start_ranks

__all__ = ["ray_cluster"]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def settings(config: TrainConfig) -> Path:
    path = Path(config.output).with_suffix(".json")
    path.write_text(config.dumps())
    return path


def one_rank(config: TrainConfig) -> None:
    """In this process, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(config)
    finally:
        torch.set_num_threads(threads)


def losses(config: TrainConfig) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]
    return {line["step"]: {k: v for k, v in line.items() if not k.startswith("time/")} for line in lines}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, narrow_weights: Path, shard: Path) -> MakeRun:
    """Runs of 6 steps that keep all checkpoints. The rate is small, so that Adam does not blow rounding up."""
    make = runs_in(tmp_path_factory.mktemp("ranks"), narrow_weights, shard)
    optim = OptimConfig(lr=1e-6, warm_up=1, schedule="constant")
    return lambda name, batch_size: make(name, batch_size, steps=6, optim=optim, checkpoint_every=1, keep=9)


@pytest.fixture(scope="module")
def alone(runs: MakeRun) -> TrainConfig:
    """One rank with batches of 4."""
    config = runs("alone", 4)
    one_rank(config)
    return config


@pytest.fixture(scope="module")
def together(runs: MakeRun) -> TrainConfig:
    """Two ranks with batches of 2, undisturbed."""
    config = runs("together", 2)
    start_ranks(one_rank, 2, config)
    return config


@pytest.mark.slow
def test_two_ranks_do_what_one_does_with_twice_the_batch(alone: TrainConfig, together: TrainConfig) -> None:
    expected, found = losses(alone), losses(together)
    assert expected.keys() == found.keys() == set(range(1, 7))
    for step in (1, 2, 3):  # then Adam has blown rounding up
        for name, value in expected[step].items():
            accuracy = 1e-5 if name == "loss" else 1e-4  # terms of an untrained network differ by rounding
            assert found[step][name] == pytest.approx(value, rel=accuracy, abs=1e-6), f"{name} in step {step}"
    assert [found[step]["loss"] for step in (4, 5, 6)] == pytest.approx(
        [expected[step]["loss"] for step in (4, 5, 6)], rel=1e-4
    )


@pytest.mark.slow
def test_a_killed_rank_costs_nothing(runs: MakeRun, together: TrainConfig) -> None:
    """SIGKILL one of torchrun's two ranks in mid-run; two ranks go on and end as the undisturbed run, bit for bit."""
    cut = runs("cut", 2)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "handface.jobs.train", "--config", str(settings(cut))]
    started = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 150
    try:
        while not (Path(cut.output) / "checkpoints" / "step-000000002.pt").exists():
            assert time.monotonic() < end and started.poll() is None
            time.sleep(0.02)
        ranks = [int(pid) for pid in children(started.pid)]
        os.kill(ranks[-1], signal.SIGKILL)
        assert started.wait(60) != 0
    finally:
        if started.poll() is None:
            started.kill()
    assert not (Path(cut.output) / "last").exists()
    start_ranks(one_rank, 2, cut)
    assert losses(cut) == losses(together)
    ends = [load_dice(Path(config.output) / "last").state_dict() for config in (cut, together)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def training_workers() -> list[int]:
    """Pids of the Ray Train workers in the cluster that this process started."""
    below, found = [os.getpid()], []
    while below:
        for task in Path(f"/proc/{below.pop()}/task").glob("*/children"):
            for child in task.read_text().split():
                below.append(int(child))
                if b"RayTrainWorker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(600)
def test_ray_starts_a_killed_worker_again_and_nothing_is_lost(
    runs: MakeRun, together: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two workers dies in mid-run; in the end the log is, bit for bit, that of two ranks that were left alone.

    Also with resume "never": that is for the person who starts a run, not for Ray, which starts its workers again.
    """
    cut = replace(runs("ray", 2), resume="never")
    # as people write them: Ray's workers sit in another folder
    monkeypatch.chdir(tmp_path)
    sets = tuple(replace(d, shards=tuple(map(os.path.relpath, d.shards))) for d in cut.data.datasets)
    cut = replace(cut, output="cut", init=os.path.relpath(str(cut.init)), data=replace(cut.data, datasets=sets))
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 300
        while not (Path(cut.output) / "checkpoints" / "step-000000001.pt").exists() and time.monotonic() < end:
            time.sleep(0.02)
        killed.append(max(training_workers()))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert verb.run(verb.Config(config=settings(cut), workers="2")) == 0
    killer.join()
    assert killed and losses(cut) == losses(together) and set(losses(cut)) == set(range(1, 7))
    with pytest.raises(CheckpointError, match="resume is 'never'"):
        verb.run(verb.Config(config=settings(cut), workers="2"))
    # what no restart mends is said once, in a sentence, and at once
    start = time.monotonic()
    with pytest.raises((ValueError, RuntimeError), match=r"optim\.lr was 1e-06, is 0\.5") as raised:
        verb.run(verb.Config(config=settings(replace(cut, resume="auto")), lr=0.5, workers="1"))
    assert "\n" not in str(raised.value) and time.monotonic() - start < 120
    with pytest.raises(FileNotFoundError, match=r"nowhere: .*: no such file or folder"):
        verb.run(verb.Config(train=("nowhere",), output="other", workers="1"))


def test_another_number_of_ranks_goes_on_where_the_stream_stands(
    runs: MakeRun, alone: TrainConfig, together: TrainConfig
) -> None:
    """Two ranks of 2, then one of 4, consume the same samples as one of 4 all the way: the losses agree."""
    changed = runs("changed", 4)
    (Path(changed.output) / "checkpoints").mkdir(parents=True)
    shutil.copy(Path(together.output) / "checkpoints" / "step-000000002.pt", Path(changed.output) / "checkpoints")
    one_rank(changed)
    expected, found = losses(alone), losses(changed)
    assert found.keys() == {3, 4, 5, 6}
    for step, line in found.items():
        assert line["loss"] == pytest.approx(expected[step]["loss"], rel=1e-5 if step == 3 else 1e-4)


def test_batch_norm_over_ranks_is_that_of_the_joined_batch(tmp_path: Path) -> None:
    """Three ranks with 3, 2 and 1 samples: values, gradients and running statistics."""
    start_ranks(norm_rank, 3, tmp_path)
    torch.manual_seed(0)
    x = (torch.randn(6, 3, 4, 4) * 2 + 5).requires_grad_(True)
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(3)
    nn.init.normal_(norm.weight)
    y = norm(x)
    y.pow(3).sum().backward()
    close = {"rtol": 1e-4, "atol": 1e-4}
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(3)]
    torch.testing.assert_close(torch.cat([state["y"] for state in ranks]), y.detach(), **close)
    torch.testing.assert_close(torch.cat([state["x"] for state in ranks]), x.grad, **close)
    for state in ranks:
        torch.testing.assert_close(state["weight"], norm.weight.grad, **close)
        torch.testing.assert_close(state["bias"], norm.bias.grad, **close)
        torch.testing.assert_close(state["mean"], norm.running_mean, **close)
        torch.testing.assert_close(state["var"], norm.running_var, **close)


def test_norms_are_replaced_with_what_they_hold() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)))
    module(torch.randn(8, 3, 1, 1))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    replaced = convert_norms(module, all_gather)
    assert sum(isinstance(part, RankBatchNorm) for part in replaced.modules()) == 2
    after = replaced.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    replaced.eval()
    assert torch.isfinite(replaced(torch.randn(2, 3, 1, 1))).all()  # then they are ordinary norms
