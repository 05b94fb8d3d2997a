"""Training: two ranks against one, the share of time waiting for data, and on a GPU bf16 pictures/s and MFU. All in one run.

    python -m benchmarks.trainers.train                              # makes a small synthetic set first
    python -m benchmarks.trainers.train --shards out/studio --save

CPU cases are whole processes, as `handface train` and `torchrun` start them, and take turns; figures are read from their logs, as
medians over the steps after the first few. The GPU case runs here, with the data really read.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from benchmarks.model.model import _device_name as device_name
from benchmarks.model.model import ceiling
from benchmarks.results import Figure, report
from handface.trainers.build import build_network
from handface.trainers.config import TrainConfig
from handface.trainers.data import DataConfig, DatasetConfig, make_loader
from handface.trainers.distributed.ranks import Ranks
from handface.trainers.losses import LossConfig, LossWeights
from handface.trainers.step import TrainStep
from handface.trainers.trainer import train

GOALS = "Goals: two ranks at least 1.6x the samples/s of one with the same threads each; under 5 % of the time waiting for data."
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16 FLOP/s, as NVIDIA states them (SXM)


@dataclass(frozen=True)
class Config:
    shards: tuple[str, ...] = ()
    """Folders of parts or tars with 3D labels; a small synthetic set is made if none is given."""
    preset: str = "dice-s"
    """Network of the CPU cases."""
    batch: int = 4
    """Samples per step of each rank, CPU."""
    steps: int = 8
    """Steps of a CPU case; the first three are not counted."""
    rounds: int = 3
    """Turns of the two cases of one and two ranks."""
    gpu_preset: str = "dice-w64"
    """Network on the GPU."""
    gpu_batch: int = 64
    """Samples per step, GPU."""
    gpu_steps: int = 120
    """Steps on the GPU; the first 20 are not counted."""
    interaction: bool = False
    """Also touch and collision, which cost as much as all else on a CPU."""
    subject: str = "train"
    """Page and CSV under docs/results; `train_gpu` on a GPU."""
    save: bool = False
    """Write the figures there."""


@dataclass(frozen=True)
class Case:
    """Medians over a case's counted steps. wait: share of the time. memory: peak GiB of its largest process, or of the GPU."""

    samples_per_second: float
    wait: float
    memory: float


def make_scenes(folder: Path) -> None:
    """Forty-eight rendered scenes: a set that stays in memory, so that decoding is measured and no disk."""
    from handface.jobs import synthesize

    code = synthesize.run(synthesize.Config(count=48, size=256, output=str(folder), local=True))
    if code:
        raise SystemExit(code)


def run_of(
    config: Config, shards: tuple[str, ...], output: Path, gpu: bool = False, sync_batchnorm: bool = True
) -> TrainConfig:
    """A run of the benchmark; random weights, all losses but touch and collision if not asked for."""
    from handface.model.network.config import preset

    name = config.gpu_preset if gpu else config.preset
    cores = len(os.sched_getaffinity(0))
    data = DataConfig(
        tuple(DatasetConfig(f"set{number}", (path,)) for number, path in enumerate(shards)),
        image_size=preset(name).input.size,
        batch_size=config.gpu_batch if gpu else config.batch,
        workers=max(1, min(12, cores - 2)) if gpu else 1,
        index_folder=str(output.parent / "index"),
    )
    steps = config.gpu_steps if gpu else config.steps
    return TrainConfig(
        data=data,
        output=output,
        preset=name,
        steps=steps,
        loss=LossConfig() if config.interaction else LossConfig(LossWeights(touch=0, collision=0)),
        precision="bf16" if gpu else "fp32",
        sync_batchnorm=sync_batchnorm,
        log_every=20 if gpu else 1,
        checkpoint_every=10 * steps,
    )


def in_processes(run: TrainConfig, ranks: int, threads: int) -> Case:
    """A CPU run by `python -m jobs.train`, or by torchrun for more than one rank."""
    settings = Path(run.output).with_suffix(".json")
    settings.write_text(run.dumps())
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launcher, "-m", "handface.jobs.train", "--config", str(settings)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    started = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise SystemExit(f"training failed: {' '.join(command)}")
    return logged(run, skip=3, memory=used.ru_maxrss / 2**20)


def logged(run: TrainConfig, skip: int, memory: float) -> Case:
    """A finished run's log without its first steps."""
    lines = [json.loads(line) for line in (Path(run.output) / "log.jsonl").read_text().splitlines()]
    counted = [line for line in lines if line["step"] > skip and "time/samples_per_second" in line]
    if not counted:
        raise SystemExit(f"{run.output}: no step after the first {skip} was logged; give more --steps")
    rate = statistics.median(line["time/samples_per_second"] for line in counted)
    return Case(rate, statistics.fmean(line["time/data_wait_share"] for line in counted), memory)


def flops_of(run: TrainConfig) -> float:
    """FLOPs of a training step per sample, forward and backward: products and sums in convolutions, linear maps and attention."""
    from torch.utils.flop_counter import FlopCounterMode

    small = replace(run, data=replace(run.data, batch_size=2, workers=0), precision="fp32")
    trainer = TrainStep(build_network(small), small, Ranks(0, 1, torch.device("cpu")))
    batch = next(iter(make_loader(small.data, pin_memory=False)))
    with FlopCounterMode(display=False) as counter:
        trainer(0, [batch])
    return counter.get_total_flops() / len(batch)


def cpu_figures(config: Config, shards: tuple[str, ...], folder: Path) -> list[Figure]:
    """Two ranks against one, with one thread each and in turns; then one process with both cores."""
    cases = {
        "1 rank, 1 thread": (1, True),
        "2 ranks (gloo), 1 thread each": (2, True),
        "2 ranks, each with norms of its own": (2, False),
    }
    alone, together, apart = cases
    found: dict[str, list[Case]] = {name: [] for name in cases}
    for turn in range(config.rounds):
        for number, (name, (ranks, synced)) in enumerate(cases.items()):
            run = run_of(config, shards, folder / f"case{number}-{turn}", sync_batchnorm=synced)
            found[name].append(in_processes(run, ranks, threads=1))
            print(f"turn {turn + 1}/{config.rounds}, {name}: {found[name][-1].samples_per_second:.2f} samples/s")
    found["1 rank, 2 threads"] = [in_processes(run_of(config, shards, folder / "both"), 1, threads=2)]
    figures = []
    for name, taken in found.items():
        rates = [case.samples_per_second for case in taken]
        spread = f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})"
        wait, memory = statistics.fmean(case.wait for case in taken), max(case.memory for case in taken)
        figures += [
            Figure(f"case | {name} | samples/s (turns)", spread),
            Figure(f"case | {name} | waiting for data", f"{wait:.1%}"),
            Figure(f"case | {name} | largest process", f"{memory:.2f}", "GiB"),
        ]
        if name in (together, apart):
            figures.append(Figure(f"case | {name} | to one rank", _ratio(taken, found[alone])))
    return figures


def _ratio(ours: list[Case], base: list[Case]) -> str:
    """Median and range over the turns."""
    ratios = [a.samples_per_second / b.samples_per_second for a, b in zip(ours, base, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def gpu_figures(config: Config, shards: tuple[str, ...], folder: Path) -> list[Figure]:
    """bf16 training on one GPU, data and all."""
    run, device = run_of(config, shards, folder / "gpu", gpu=True), torch.device("cuda")
    flops, top = flops_of(run), ceiling(device, torch.bfloat16)
    torch.cuda.reset_peak_memory_stats()
    train(run)
    case = logged(run, skip=20, memory=torch.cuda.max_memory_allocated() / 2**30)
    done = flops * case.samples_per_second
    stated = next((peak for name, peak in PEAKS.items() if name in device_name(device)), None)
    row = f"GPU | {device_name(device)}, {config.gpu_preset}, bf16, batch {config.gpu_batch}"
    return [
        Figure(f"{row} | images/s", f"{case.samples_per_second:.1f}"),
        Figure(f"{row} | waiting for data", f"{case.wait:.1%}"),
        Figure(f"{row} | peak memory", f"{case.memory:.1f}", "GiB"),
        Figure(f"{row} | forward and backward, each", f"{flops / 1e9:.0f}", "GFLOP"),
        Figure(f"{row} | of the stated FLOP/s", f"{done / stated:.1%}" if stated else "-"),
        Figure(f"{row} | of measured products", f"{done / top:.1%}"),
    ]


def main(config: Config) -> None:
    """Measure, print, and write the figures if asked to."""
    start, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder, shards = Path(name), config.shards
        if not shards:
            make_scenes(folder / "scenes")
            shards = (str(folder / "scenes"),)
        figures = cpu_figures(config, shards, folder)
        if torch.cuda.is_available():
            figures += gpu_figures(config, shards, folder)
    losses = "all losses" if config.interaction else "all losses but touch and collision"
    print(f"{config.preset}, batch {config.batch} per rank; {losses}; {GOALS}")
    print(f"load average {load:.1f} before, {os.getloadavg()[0]:.1f} after; {time.monotonic() - start:.0f} s in all")
    report(config.subject, figures, config.save)


if __name__ == "__main__":
    main(tyro.cli(Config))
