"""How long the bodies take: forward and backward of hand + head, batch 64, on the CPU. Writes docs/results/<date>-bodies.md.

Run as `python -m benchmarks.model.bodies`.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from pathlib import Path

import torch
import tyro

from handface.model.bodies import ParametricBody, load_body
from handface.model.bodies.build.fit import read_fit
from handface.model.bodies.load import DATA


def timed(bodies: list[ParametricBody], batch: int, backward: bool) -> float:
    """Seconds for all bodies once, the median of nine runs after two for warming up."""
    seconds = []
    for _ in range(11):
        inputs = [
            [
                torch.randn(batch, width, requires_grad=backward)
                for width in (b.arrays.num_betas, b.num_pose, 3, 3, b.arrays.num_expressions)
            ]
            for b in bodies
        ]
        start = time.perf_counter()
        with torch.set_grad_enabled(backward):
            for body, values in zip(bodies, inputs, strict=True):
                output = body(*values)
                if backward:
                    (output.vertices.square().sum() + output.keypoints.sum()).backward()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds[2:])[4]


def main(batch: int = 64, output: Path = Path("docs/results")) -> None:
    """Measure and write."""
    bodies = [load_body("free-hand", "decaf"), load_body("free-head", "decaf")]
    lines = [
        "# Bodies",
        "",
        f"torch {torch.__version__}, {os.cpu_count()} CPU cores (shared), float32, batch {batch}, hand + head.",
        "",
    ]
    lines += ["| threads | forward, ms | forward + backward, ms |", "| --- | --- | --- |"]
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        lines.append(
            f"| {threads} | {1000 * timed(bodies, batch, False):.0f} | {1000 * timed(bodies, batch, True):.0f} |"
        )
    fit = read_fit()
    errors, hand = (
        fit["landmarks"]["error_percent_of_eye_distance"]["held_out"],
        fit["hand"]["held_out_error_percent_of_palm"],
    )
    lines += [
        "",
        f"Keypoints against MediaPipe {fit['mediapipe']} on held-out renders (`benchmarks/model/fit_body_keypoints.py`):",
        "",
    ]
    lines.append(
        "- 68 landmarks, % of the distance of the outer eye corners: "
        + ", ".join(f"{k} {v:.1f}" for k, v in errors.items())
    )
    for name in ("before", "after"):
        lines.append(
            f"- hand, {name} the offsets, % of the palm: " + ", ".join(f"{k} {v:.1f}" for k, v in hand[name].items())
        )
    lines += [
        "",
        "Files: " + ", ".join(f"{p.name} {p.stat().st_size / 1e3:.0f} kB" for p in sorted(DATA.glob("*.npz"))),
        "",
    ]
    path = output / f"{datetime.date.today()}-bodies.md"
    path.write_text("\n".join(lines))
    print("\n".join(lines), json.dumps({"written": str(path)}), sep="\n")


if __name__ == "__main__":
    tyro.cli(main)
