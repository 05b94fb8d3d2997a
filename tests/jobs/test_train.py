"""handface train: how flags and file meet, and real Ray Train workers, one of which is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from handface.jobs.train import Config, resolve, run
from handface.trainers.checkpoint import CheckpointError
from handface.trainers.config import TrainConfig
from tests.trainers.conftest import MakeRun, make_run, narrow_weights, shard

__all__ = ["make_run", "narrow_weights", "shard"]
ROOT = Path(__file__).parents[2]


def losses(config: TrainConfig) -> dict[int, dict[str, float]]:
    """{step: values without times} of a run's log."""
    lines = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    return {line["step"]: {k: v for k, v in line.items() if not k.startswith("time/")} for line in lines}


def settings(config: TrainConfig) -> Path:
    path = config.output.with_suffix(".json")
    path.write_text(config.dumps())
    return path


def test_flags_make_a_run_and_override_a_file(tmp_path: Path) -> None:
    made = resolve(Config(train=("a=out/a", "out/b/"), wild=("out/c",), preset="dice-nano", steps=70, lr=1e-3, seed=4))
    assert [(d.name, d.shards, d.weak) for d in made.data.datasets] == [
        ("a", ("out/a",), False),
        ("b", ("out/b/",), False),
        ("c", ("out/c",), True),
    ]
    assert (made.data.image_size, made.steps, made.optim.lr, made.seed, made.data.seed) == (128, 70, 1e-3, 4, 4)
    path = tmp_path / "run.json"
    path.write_text(made.dumps())
    again = resolve(Config(config=path, batch_size=3, priors=("out/real",)))
    assert again == replace(made, data=replace(made.data, batch_size=3), priors=again.priors)
    assert again.priors is not None and again.priors.real.hand[0].path == "out/real"


def test_pictures_have_the_size_that_the_network_sees(tmp_path: Path, narrow_weights: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"data": {"datasets": [{"name": "a", "shards": ["out/a"]}]}, "preset": "dice-nano"}')
    assert resolve(Config(config=path)).data.image_size == 128
    assert resolve(Config(config=path, preset="dice-s")).data.image_size == 224
    assert resolve(Config(config=path, init=narrow_weights)).data.image_size == 64


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --train SHARDS or --config FILE"):
        resolve(Config())
    path = tmp_path / "run.json"
    path.write_text('{"data": {"datasets": [{"name": "a", "shards": ["out/a"]}]}, "stepz": 3, "steps": "many"}')
    with pytest.raises(ValueError, match=r"run\.json: .*(?s:.)*steps"):
        resolve(Config(config=path))
    with pytest.raises(ValueError, match=r"--workers some: expected N or MIN\.\.MAX"):
        run(Config(train=("out/a",), output=tmp_path / "run", workers="some"))


def test_the_resolved_configuration_is_written_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert run(Config(train=("out/a",), output=tmp_path / "run", steps=9, dump_config=path)) == 0
    assert TrainConfig.loads(path.read_bytes()) == resolve(Config(train=("out/a",), output=tmp_path / "run", steps=9))
    assert not (tmp_path / "run").exists()


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


def undisturbed(config: TrainConfig) -> None:
    """Two ranks under torchrun, as a person starts them."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "handface.jobs.train", "--config", str(settings(config))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(600)
def test_ray_starts_a_killed_worker_again_and_nothing_is_lost(make_run: MakeRun) -> None:
    """One of two workers dies in mid-run; in the end the log is, bit for bit, that of two ranks that were left alone.

    Also with resume "never": that is for the person who starts a run, not for Ray, which starts its workers again.
    """
    whole, cut = (make_run(name, 2, steps=8, resume="never") for name in ("whole", "cut"))
    undisturbed(whole)
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 300
        while not (cut.output / "checkpoints" / "step-000000004.pt").exists() and time.monotonic() < end:
            time.sleep(0.02)
        killed.append(max(training_workers()))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert run(Config(config=settings(cut), workers="2")) == 0
    killer.join()
    assert killed and losses(cut) == losses(whole) and set(losses(cut)) == set(range(1, 9))
    with pytest.raises(CheckpointError, match="resume is 'never'"):
        run(Config(config=settings(cut), workers="2"))
