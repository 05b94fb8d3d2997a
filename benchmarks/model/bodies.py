"""How long the bodies take: forward and backward of hand + head, batch 64, on the CPU; and how exact their keypoints are.

python -m benchmarks.model.bodies --save
"""

from __future__ import annotations

import os
import time

import torch
import tyro

from benchmarks.results import Figure, report, tabulate
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


def main(batch: int = 64, save: bool = False) -> None:
    """Measure and print.

    Args:
        batch: people at once.
        save: write the figures to docs/results/bodies.csv and its page.
    """
    bodies = [load_body("free-hand", "decaf"), load_body("free-head", "decaf")]
    speed = {}
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        speed[str(threads)] = {
            "forward, ms": f"{1000 * timed(bodies, batch, False):.0f}",
            "forward + backward, ms": f"{1000 * timed(bodies, batch, True):.0f}",
        }
    sizes = {file.name: {"kB": f"{file.stat().st_size / 1e3:.0f}"} for file in sorted(DATA.glob("*.npz"))}
    report("bodies", [*tabulate("threads", speed), *keypoint_errors(), *tabulate("files", sizes)], save)


def keypoint_errors() -> list[Figure]:
    """Keypoints against MediaPipe's on held-out renders, as `benchmarks/model/fit_body_keypoints.py` left them."""
    fit = read_fit()
    face = fit["landmarks"]["error_percent_of_eye_distance"]["held_out"]
    hand = fit["hand"]["held_out_error_percent_of_palm"]
    rows = {name: {part: f"{value:.1f}" for part, value in hand[name].items()} for name in ("before", "after")}
    return [
        *tabulate(
            "face, % of the eye distance", {"68 landmarks": {part: f"{value:.1f}" for part, value in face.items()}}
        ),
        *tabulate("hand, % of the palm", {f"{name} the offsets": row for name, row in rows.items()}),
    ]


if __name__ == "__main__":
    tyro.cli(main)
