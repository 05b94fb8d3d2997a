"""The network against the released one written plainly (eager, fp32): speed and error, same weights, one run.

    python -m benchmarks.model.model                              # CPU, or the GPU if there is one
    python -m benchmarks.model.model --save

Cases take turns, so that a change of the machine's load hits all of them; figures are medians over the rounds.
Rows for onnxruntime and OpenVINO appear where these are installed (OpenVINO: the `openvino` extra).
"""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from rich.progress import Progress
from torch import nn

from benchmarks.results import report, tabulate
from handface.model.network.deploy.export import as_output, export_onnx, onnx_session, openvino_session
from handface.model.network.deploy.fold import fold
from handface.model.network.deploy.inference import InferenceConfig, prepare
from handface.model.network.dice import Dice
from handface.model.network.output import DiceOutput
from handface.model.weights.convert import translate
from handface.model.weights.released import canonical, infer_config
from tests.model.reference_dice import METRO, NETWORK, Spec

Call = Callable[[torch.Tensor], DiceOutput]
TARGETS = {
    "cpu": "Goals on CPU at batch 1 and 8: >= 1.4x exact fp32, >= 2.7x bf16 with relative error under 1 %.",
    "cuda": "Goals on an H200: > 100 images/s at batch 1 and > 1,500 at batch 64.",
}


@dataclasses.dataclass(frozen=True)
class Config:
    batches: tuple[int, ...] = ()
    """Batch sizes; default 1 and 8 on CPU, 1, 8 and 64 on a GPU."""
    rounds: int = 9
    """Timed turns of every case."""
    threads: int = 2
    """CPU threads for every case."""
    compile: bool = False
    """Also torch.compile on CPU (a minute more); always on a GPU."""
    subject: str = "model"
    """Page and CSV under docs/results; `model_gpu` on a GPU."""
    save: bool = False
    """Write the figures there."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One case at one batch size. memory: peak GiB on the GPU, or None."""

    case: str
    batch: int
    seconds: float
    ratio: float
    error: float
    share: float
    memory: float | None


def plain_network(device: torch.device) -> nn.Module:
    """The released network with BERT's initial weights and features of unit size.

    Random weights: a backbone whose batch statistics fit its random weights amplifies rounding without bound, which no trained
    network does, so the statistics stay at 0 and 1. The bf16 error on trained weights has to be measured with those.
    """
    torch.manual_seed(0)
    network = NETWORK(Spec(vocabulary=2)).eval()  # the dead word embeddings would only cost memory
    for part in network.modules():
        if isinstance(part, METRO):
            for layer in part.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.02)
    norm = network.backbone.final_layer[1]
    with torch.no_grad():  # features of the size a trained backbone gives
        scale = network.backbone(torch.randn(2, 3, 224, 224)).std()
        norm.weight /= scale
        norm.bias /= scale
    return network.to(device)


def our_network(plain: nn.Module, template: torch.Tensor) -> Dice:
    """Ours with the same weights, through the converter."""
    tensors = canonical(plain.state_dict())
    config = infer_config(tensors)
    device = template.device
    state, _ = translate({key: value.cpu() for key, value in tensors.items()}, config, "benchmark")
    model = Dice(config)
    model.load_state_dict(state | {"template": template.cpu()})
    return model.eval().to(device)


def plain_call(network: nn.Module, template: torch.Tensor, model: Dice) -> Call:
    groups = list(model.config.sizes.groups)

    def run(images: torch.Tensor) -> DiceOutput:
        parts = [part.expand(len(images), -1, -1) for part in template.split(groups)]
        with torch.no_grad():
            values = network(model.normalize(images), *parts)
        raw, head = values[0], values[7]
        logit = torch.special.logit
        flat = dict(
            zip(
                (
                    "hand_betas",
                    "hand_transl",
                    "hand_global_orient",
                    "hand_pose",
                    "head_betas",
                    "head_expression",
                    "head_pose",
                )
                + ("head_global_orient", "head_transl"),
                values[13:22],
                strict=True,
            )
        )
        flat |= {"camera": torch.cat([10 * raw[:, :1].abs(), raw[:, 1:]], 1), "camera_origin": head.mean(1)}
        flat |= {"hand_keypoints": values[1], "head_keypoints": values[2]}
        flat |= {"hand_vertices_0": values[4], "hand_vertices_1": values[3]}
        flat |= {"head_vertices_0": head, "head_vertices_1": values[6], "head_vertices_2": values[5]}
        flat |= {"hand_contact_logits_0": logit(values[9][..., 0]), "head_contact_logits_0": logit(values[12][..., 0])}
        flat |= {"head_deformation_0": values[24], "presence_logit": logit(values[25][:, 0])}
        return DiceOutput.unflatten(flat)

    return run


def error_of(found: DiceOutput, expected: DiceOutput) -> float:
    """Largest relative error over the outputs people use: |difference| / |expected| (norms over the batch)."""

    def used(output: DiceOutput) -> dict[str, torch.Tensor]:
        flat = output.flatten()
        names = [name for name in flat if name.endswith(("keypoints", "vertices_0", "deformation_0", "betas", "pose"))]
        chosen = {name: flat[name] for name in (*names, "camera", "head_expression", "hand_transl", "head_transl")}
        return chosen | {
            "contact": torch.cat([output.hand.contact, output.head.contact], 1),
            "presence": output.presence,
        }

    one, two = used(found), used(expected)
    return max(((one[name] - two[name]).norm() / two[name].norm().clamp(min=1e-9)).item() for name in two)


def cases(config: Config, plain: nn.Module, model: Dice, folder: Path) -> dict[str, Call]:
    device = model.template.device
    found: dict[str, Call] = {"plain eager fp32": plain_call(plain, model.template, model)}

    def ours(images: torch.Tensor) -> DiceOutput:
        with torch.no_grad():
            return model(images)

    found |= {"ours fp32, as trained": ours, "ours fp32, prepared": prepare(model)}
    found["ours bf16, prepared"] = prepare(model, InferenceConfig("bf16"))
    if config.compile or device.type == "cuda":
        found["ours fp32, compiled"] = prepare(model, InferenceConfig("fp32", compile=True))
        found["ours bf16, compiled"] = prepare(model, InferenceConfig("bf16", compile=True))
    if device.type == "cpu":
        path = folder / "dice.onnx"
        export_onnx(model, path)
        sessions = {"onnxruntime fp32": onnx_session(path, config.threads)}
        try:
            import openvino  # noqa: F401
        except ImportError:
            print("OpenVINO is not installed: no rows for it")
        else:
            sessions["OpenVINO fp32"] = openvino_session(path, "fp32", config.threads)
            sessions["OpenVINO bf16"] = openvino_session(path, "bf16", config.threads)
        found |= {name: lambda images, run=run: as_output(run(images.numpy())) for name, run in sessions.items()}
    return found


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product, best of several."""
    side = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        _synchronise(device)
        start = time.perf_counter()
        a @ b
        _synchronise(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def count_flops(model: Dice, images: torch.Tensor) -> int:
    """Of the folded network: products and sums in convolutions, linear maps and attention."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        fold(model)(images)
    return counter.get_total_flops()


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(config: Config, device: torch.device, folder: Path) -> tuple[list[Row], list[str]]:
    plain = plain_network(device)
    groups = list(infer_config(canonical(plain.state_dict())).sizes.groups)
    template = torch.randn(sum(groups), 3, generator=torch.Generator().manual_seed(1)).mul(0.05)
    centred = torch.cat(_centred(template, groups)).to(device)
    model = our_network(plain, centred)
    calls = cases(config, plain, model, folder)
    ceilings = {dtype: ceiling(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    flops = count_flops(model, torch.rand(1, 3, 224, 224, device=device))
    notes = [
        f"{device.type}: {_device_name(device)}, {config.threads if device.type == 'cpu' else 'all'} threads, torch {torch.__version__},"
        f" load average before {os.getloadavg()[0]:.1f}",
        f"parameters {sum(value.numel() for value in model.parameters()):,}; {flops / 1e9:.0f} GFLOP per image in the folded network",
        f"matmul ceiling measured: {ceilings[torch.float32] / 1e12:.2f} TFLOP/s fp32, {ceilings[torch.bfloat16] / 1e12:.2f} bf16",
    ]
    batches = config.batches or ((1, 8, 64) if device.type == "cuda" else (1, 8))
    rows = []
    with Progress() as progress:
        task = progress.add_task("model", total=len(batches) * len(calls) * (config.rounds + 1))
        for batch in batches:
            images = torch.rand(batch, 3, 224, 224, generator=torch.Generator().manual_seed(2)).to(device)
            rows += _measure_batch(config, calls, images, flops, ceilings, lambda: progress.advance(task))
    notes.append(f"load average after {os.getloadavg()[0]:.1f}; {config.rounds} rounds")
    return rows, notes


def _measure_batch(
    config: Config,
    calls: dict[str, Call],
    images: torch.Tensor,
    flops: int,
    ceilings: dict[torch.dtype, float],
    advance: Callable[[], None],
) -> list[Row]:
    device, batch = images.device, len(images)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    errors, memory = {}, {}
    expected = None
    for name, call in calls.items():  # also warms up
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for _ in range(3 if device.type == "cuda" else 1):
            output = call(images)
        _synchronise(device)
        expected = output if expected is None else expected
        errors[name] = error_of(output, expected)
        memory[name] = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
        advance()
    for _ in range(config.rounds):
        for name, call in calls.items():
            repeats = 5 if device.type == "cuda" else 1
            start = time.perf_counter()
            for _ in range(repeats):
                call(images)
            _synchronise(device)
            seconds[name].append((time.perf_counter() - start) / repeats)
            advance()
    base = seconds[next(iter(calls))]
    rows = []
    for name, times in seconds.items():
        middle = statistics.median(times)
        ratio = statistics.median(plain / mine for plain, mine in zip(base, times, strict=True))
        top = ceilings[torch.bfloat16 if "bf16" in name else torch.float32]
        rows.append(Row(name, batch, middle, ratio, errors[name], flops * batch / middle / top, memory[name]))
    return rows


def _centred(template: torch.Tensor, groups: list[int]) -> list[torch.Tensor]:
    """As the network's own template is: each part about its coarse vertices' mean."""
    hand_keypoints, head_keypoints, hand, head = template.split(groups)
    return [hand_keypoints - hand.mean(0), head_keypoints - head.mean(0), hand - hand.mean(0), head - head.mean(0)]


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        rows, notes = measure(config, device, Path(folder))
    print("\n".join([TARGETS[device.type], *notes]))
    table = {
        f"{row.case}, {row.batch}": {
            "ms": f"{row.seconds * 1000:.1f}",
            "images/s": f"{row.batch / row.seconds:.2f}",
            "x plain": f"{row.ratio:.2f}",
            "relative error": f"{row.error:.1e}",
            "share of ceiling": f"{row.share:.0%}",
            "GPU GiB": "" if row.memory is None else f"{row.memory:.2f}",
        }
        for row in rows
    }
    report(config.subject, tabulate("case", table), config.save)


if __name__ == "__main__":
    main(tyro.cli(Config))
