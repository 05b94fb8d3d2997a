"""Depth Anything on the CPU: OpenVINO bfloat16 against eager float32, on a ViT-S checkpoint with random weights.

python benchmarks/pipeline/depth.py --output docs/results/depth.md
"""

from __future__ import annotations

import argparse
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    noise = np.random.default_rng(0)
    images = [
        np.kron(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
        for _ in range(arguments.images)
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        save_vit_small(Path(folder))
        for side in (392, 518):
            eager = DepthAnything(DepthAnythingConfig(folder, backend="torch", side=side))
            fast = DepthAnything(DepthAnythingConfig(folder, backend="openvino", side=side))
            slow_ms, fast_ms = milliseconds(eager, images), milliseconds(fast, images)
            a, b = eager.annotate(images[:1])[0], fast.annotate(images[:1])[0]
            error = float(np.abs(a - b).mean() / np.abs(a).mean())
            rows.append(f"| {side} | {slow_ms:.0f} | {fast_ms:.0f} | {slow_ms / fast_ms:.1f}x | {error:.2%} |")
    text = "\n".join(
        [
            "# Depth Anything on the CPU: OpenVINO bfloat16 against eager float32",
            "",
            f"Made by `benchmarks/pipeline/depth.py --threads {arguments.threads}`. ViT-S sizes, random weights (speed and agreement "
            f"of the two backends, not accuracy), 512 px crops one at a time, {arguments.threads} thread(s), median of "
            f"{arguments.images} images, pre- and post-processing included; torch {version('torch')}, "
            f"openvino {version('openvino')}. Other jobs were running on the machine; the ratio is of one run.",
            "",
            "| network side | eager fp32 ms | OpenVINO bf16 ms | ratio | mean relative difference |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )
    arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
