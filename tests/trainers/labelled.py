"""Samples with 3D labels of the free bodies, made in milliseconds: a hand beside a head, contact and a dent drawn at random."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from handface.model.bodies import load_arrays
from handface.pipeline.contract.sample import LEFT, RIGHT, Labels, Sample

HAND, HEAD = load_arrays("free-hand"), load_arrays("free-head")


def labels_3d(seed: int, touching: bool = True, side: int = RIGHT) -> Labels:
    """Labels whose numbers are in natural ranges; contact and deformation belong to nothing in particular."""
    rng = np.random.default_rng(seed)

    def near(shape: int | tuple[int, ...], spread: float, middle: Any = 0.0) -> Any:
        return (np.asarray(middle) + rng.normal(0, spread, shape)).astype(np.float32)

    rows = np.sort(rng.choice(len(HEAD.template), 40, replace=False)).astype(np.int32)
    none = np.zeros(0, np.int32)
    hand_bits, head_bits = np.zeros(len(HAND.template), bool), np.zeros(len(HEAD.template), bool)
    if touching:
        hand_bits[rng.choice(len(hand_bits), 30, replace=False)] = True
        head_bits[rows] = True
    return Labels(
        face_keypoints_2d=np.concatenate([near((68, 2), 8, 32), np.ones((68, 1), np.float32)], 1),
        hand_keypoints_2d=np.concatenate([near((1, 21, 2), 8, 40), np.ones((1, 21, 1), np.float32)], 2),
        hand_side=np.array([side], np.uint8),
        hand_betas=near(HAND.num_betas, 0.5),
        hand_pose=near((15, 3), 0.1),
        hand_global_orient=near(3, 0.3),
        hand_transl=near(3, 0.01, [0.0, 0.0, 0.5]),
        hand_contact=np.packbits(hand_bits),
        head_betas=near(HEAD.num_betas, 0.5),
        head_expression=np.abs(near(HEAD.num_expressions, 0.05)),
        head_pose=near((4, 3), 0.05),
        head_global_orient=near(3, 0.2),
        head_transl=near(3, 0.01, [0.0, 0.0, 0.6]),
        head_contact=np.packbits(head_bits),
        head_deformation_rows=rows if touching else none,
        head_deformation=near((len(rows) if touching else 0, 3), 0.006).astype(np.float16),
        hand_model="free-hand",
        head_model="free-head",
    )


def studio_samples(make_sample: Any, count: int = 6, subjects: int = 3) -> list[Sample]:
    """Every third hand apart from the face, every second a left one; `subjects` people before two cameras."""
    samples = []
    for seed in range(count):
        columns = {"subject": f"S{seed % subjects}", "camera": f"{100 + seed % 2}"}
        sample = make_sample(seed, side=64, depth=False, columns=columns)
        labels = labels_3d(seed, touching=seed % 3 != 2, side=LEFT if seed % 2 else RIGHT)
        depth = {"keypoint_depth": sample.labels.keypoint_depth}
        samples.append(replace(sample, labels=replace(labels, **depth), meta=replace(sample.meta, scores=None)))
    return samples
