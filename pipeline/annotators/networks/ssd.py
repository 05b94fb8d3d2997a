"""Single-shot detection as MediaPipe does it: fixed anchors, decoded boxes and keypoints, weighted non-maximum suppression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLIP = 100.0  # raw scores beyond this are cut


@dataclass(frozen=True)
class SsdDetection:
    """box: (4,) x0, y0, x1, y1.  keypoints: (K, 2).  Both relative to the network's input, 0 to 1.  score in [0, 1]."""

    box: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    score: float


def make_anchors(input_size: int, strides: tuple[int, ...], per_cell: int) -> NDArray[np.float32]:
    """(A, 2) centres of the anchors, 0 to 1. Layers of equal stride share cells; each layer adds `per_cell` anchors."""
    layers = []
    for stride in sorted(set(strides)):
        cells = input_size // stride
        y, x = np.mgrid[:cells, :cells].reshape(2, -1)
        centres = (np.column_stack([x, y]) + 0.5) / cells
        layers.append(np.repeat(centres, per_cell * strides.count(stride), axis=0))
    return np.concatenate(layers).astype(np.float32)


def decode(
    raw_boxes: NDArray[np.float32],
    raw_scores: NDArray[np.float32],
    anchors: NDArray[np.float32],
    input_size: int,
    threshold: float,
) -> list[SsdDetection]:
    """One picture's detections, the surest first.

    Args:
        raw_boxes: (A, 4 + 2 K) offsets from the anchors in input pixels: centre, size, K keypoints.
        raw_scores: (A,) logits.
        anchors: (A, 2) centres, 0 to 1.
        input_size: side of the network's input in pixels.
        threshold: detections below this score are left out.
    """
    scores = sigmoid(np.clip(raw_scores, -_CLIP, _CLIP))
    chosen = np.flatnonzero(scores >= threshold)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    raw, centres = raw_boxes[chosen] / np.float32(input_size), anchors[chosen]
    middle, half = raw[:, :2] + centres, raw[:, 2:4] / 2
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    keypoints = (raw[:, 4:].reshape(len(raw), (raw.shape[1] - 4) // 2, 2) + centres[:, None]).astype(np.float32)
    valid = (half >= 0).all(1)
    return suppress(boxes[valid], keypoints[valid], scores[chosen][valid])


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) without overflow."""
    return ((1 + np.tanh(values / 2)) / 2).astype(np.float32)


def suppress(
    boxes: NDArray[np.float32], keypoints: NDArray[np.float32], scores: NDArray[np.float32], min_iou: float = 0.3
) -> list[SsdDetection]:
    """Merge overlapping boxes into the surest one, each weighing as much as it is sure. Boxes come the surest first."""
    merged = []
    rest = np.arange(len(boxes))
    while len(rest):
        iou = _iou(boxes[rest[0]], boxes[rest])
        same = rest[iou > min_iou]
        if not len(same):  # a box without an area
            same = rest[:1]
        weights = scores[same] / scores[same].sum()
        box = np.einsum("n,nk->k", weights, boxes[same])
        merged.append(SsdDetection(box, np.einsum("n,nkd->kd", weights, keypoints[same]), float(scores[rest[0]])))
        rest = rest[1:] if len(same) == 1 else rest[~np.isin(rest, same)]
    return merged


def _iou(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inter = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return inter / np.maximum(areas + np.prod(box[2:] - box[:2]) - inter, 1e-12)
