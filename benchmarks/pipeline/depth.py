"""Depth Anything on the CPU: OpenVINO bfloat16 against eager float32, on a ViT-S checkpoint with random weights.

    python -m benchmarks.pipeline.depth --save

512 px crops one at a time, pre- and post-processing included. Speed and agreement of the two backends; accuracy needs trained weights.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import tyro

from benchmarks.results import report, tabulate
from handface.pipeline.annotators.depth_anything import DepthAnything, DepthAnythingConfig


def save_vit_small(folder: Path) -> None:
    """Depth Anything V2 Small's sizes (24.8 M parameters), random weights."""
    from transformers import DepthAnythingConfig as HubConfig
    from transformers import DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        image_size=518,
        patch_size=14,
        out_features=["stage9", "stage10", "stage11", "stage12"],
        reshape_hidden_states=False,
    )
    sizes = {"neck_hidden_sizes": [48, 96, 192, 384], "fusion_hidden_size": 64, "reassemble_hidden_size": 384}
    DepthAnythingForDepthEstimation(HubConfig(backbone_config=backbone, **sizes)).save_pretrained(folder)


def milliseconds(annotator: DepthAnything, images: list[np.ndarray]) -> float:
    """Median wall milliseconds of one image, after a warm-up."""
    annotator.annotate(images[:1])
    times = []
    for image in images:
        start = time.perf_counter()
        annotator.annotate([image])
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def main(images: int = 7, threads: int = 1, save: bool = False) -> None:
    """Measure and print.

    Args:
        images: crops; the median of their times counts.
        threads: of every network.
        save: write the figures to docs/results/depth.csv and its page.
    """
    torch.set_num_threads(threads)
    noise = np.random.default_rng(0)
    crops = [
        np.kron(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
        for _ in range(images)
    ]
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        save_vit_small(Path(folder))
        for side in (392, 518):
            eager = DepthAnything(DepthAnythingConfig(folder, backend="torch", side=side))
            fast = DepthAnything(DepthAnythingConfig(folder, backend="openvino", side=side))
            slow_ms, fast_ms = milliseconds(eager, crops), milliseconds(fast, crops)
            a, b = eager.annotate(crops[:1])[0], fast.annotate(crops[:1])[0]
            table[str(side)] = {
                "eager fp32 ms": f"{slow_ms:.0f}",
                "OpenVINO bf16 ms": f"{fast_ms:.0f}",
                "ratio": f"{slow_ms / fast_ms:.1f}x",
                "mean relative difference": f"{float(np.abs(a - b).mean() / np.abs(a).mean()):.2%}",
            }
    report("depth", tabulate("network side", table), save)


if __name__ == "__main__":
    tyro.cli(main)
