"""A batch as one picture, with everything drawn on it that the labels say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.bodies import load_body
from handface.pipeline.contract.sample import DEPTH_KINDS
from handface.trainers.batch import Batch, BodyLabels

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]
_CAPTION = 34  # pixels under each picture
_FACE, _HIDDEN, _HAND = (80, 255, 80), (150, 150, 150), (255, 170, 40)
_HAND_CONTACT, _HEAD_CONTACT, _MOVED = (40, 220, 255), (255, 40, 90), (255, 255, 0)
_FINGERS = tuple((0, *range(first, first + 4)) for first in (1, 5, 9, 13, 17))
_SHIFT = 4  # sub-pixel bits of OpenCV's drawing


@dataclass(frozen=True)
class Overlay:
    """Vertices of one sample in picture pixels. hand, head: (n, 2) that touch.  moved: (m, 2, 2) from and to, of the skin's dents."""

    hand: Points
    head: Points
    moved: Points


def contact_sheet(
    batch: Batch, names: Sequence[str], hand_body: str, head_body: str, columns: int = 4, tile: int = 320
) -> Picture:
    """(H, W, 3) uint8 RGB: each sample with 2D keypoints (grey where hidden), contact vertices and dents, and a caption.

    Vertices come from the batch's own 3D labels, through the weak-perspective camera that best carries the labels' 3D keypoints
    onto the 2D ones: they lie right only if picture, 2D and 3D labels were moved alike.  names: of the data sets.
    """
    overlays = _overlays(batch, hand_body, head_body)
    tiles = [_tile(batch, k, names, overlays[k], tile) for k in range(len(batch))]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[k : k + columns], 1) for k in range(0, len(tiles), columns)]
    return np.concatenate(rows, 0)


def _tile(batch: Batch, k: int, names: Sequence[str], overlay: Overlay | None, side: int) -> Picture:
    image = batch.images[k].permute(1, 2, 0).numpy()
    zoom = side / len(image)
    canvas = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)

    def at(point: Points) -> tuple[int, int]:
        x, y = ((point[:2] + 0.5) * zoom - 0.5) * (1 << _SHIFT)
        return round(float(x)), round(float(y))

    def dot(point: Points, radius: float, colour: tuple[int, int, int], filled: bool = True) -> None:
        thickness = -1 if filled else 1
        cv2.circle(canvas, at(point), round(radius * (1 << _SHIFT)), colour, thickness, cv2.LINE_AA, _SHIFT)

    if overlay is not None:
        for point in overlay.head:
            dot(point, 1.5, _HEAD_CONTACT)
        for point in overlay.hand:
            dot(point, 1.5, _HAND_CONTACT)
        for start, end in overlay.moved:
            cv2.line(canvas, at(start), at(end), _MOVED, 1, cv2.LINE_AA, _SHIFT)
    hand, face = batch.hand_keypoints_2d[k].numpy(), batch.face_keypoints_2d[k].numpy()
    for finger in _FINGERS:
        for a, b in pairwise(finger):
            if hand[a, 2] > 0 and hand[b, 2] > 0:
                cv2.line(canvas, at(hand[a]), at(hand[b]), _HAND, 1, cv2.LINE_AA, _SHIFT)
    seen = batch.visibility[k].numpy() > 0
    for number, point in enumerate(np.concatenate([face, hand])):
        if point[2] > 0:
            dot(point, 1.8, (_FACE if number < len(face) else _HAND) if seen[number] else _HIDDEN, bool(seen[number]))
    return np.concatenate([np.asarray(canvas, np.uint8), _caption(batch, k, names, side)], 0)


def _caption(batch: Batch, k: int, names: Sequence[str], side: int) -> Picture:
    strip = np.zeros((_CAPTION, side, 3), np.uint8)
    kind = int(batch.depth_kind[k])
    known = [name for name in ("mesh", "contact", "deformation") if bool(getattr(batch, f"has_{name}")[k])]
    touches = f" {int(batch.hand_contact[k].sum())}/{int(batch.head_contact[k].sum())}" if "contact" in known else ""
    lines = (
        f"{names[int(batch.origins[k])]} {batch.keys[k]}",
        f"{'+'.join(known) or '2D only'}{touches}  depth: {DEPTH_KINDS[kind] if kind >= 0 else 'none'}",
    )
    for row, line in enumerate(lines):
        cv2.putText(strip, line, (4, 13 + 15 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1, cv2.LINE_AA)
    return strip


def _overlays(batch: Batch, hand_body: str, head_body: str) -> list[Overlay | None]:
    """Contact vertices and dents of the samples with 3D labels, in picture pixels."""
    overlays: list[Overlay | None] = [None] * len(batch)
    hand = load_body(hand_body, "free" if hand_body.startswith("free-") else "smplx")
    heads = {decaf: load_body(head_body, "decaf" if decaf else "smplx") for decaf in (False, True)}
    for k in torch.nonzero(batch.has_mesh)[:, 0].tolist():
        head = heads[bool(batch.decaf_head[k])]
        hand_out = hand(*_row(batch.hand, k, hand.num_pose))
        head_out = head(*_row(batch.head, k, head.num_pose), batch.head.expression[k : k + 1])
        camera = _weak_camera(
            torch.cat([head_out.keypoints[0], hand_out.keypoints[0]]),
            torch.cat([batch.face_keypoints_2d[k], batch.hand_keypoints_2d[k]]),
        )
        if camera is None:
            continue
        turn = head_out.rigid[0, :3, :3]
        moved = batch.head_deformation[k] @ turn.T
        dented = moved.norm(dim=1) > 0
        skin = head_out.vertices[0] + moved
        overlays[k] = Overlay(
            hand=_seen(hand_out.vertices[0][batch.hand_contact[k] > 0], camera),
            head=_seen(skin[batch.head_contact[k] > 0], camera),
            moved=np.stack([_seen(p[dented], camera) for p in (head_out.vertices[0], skin)], 1),
        )
    return overlays


def _row(labels: BodyLabels, k: int, width: int) -> tuple[torch.Tensor, ...]:
    rows = slice(k, k + 1)
    return labels.betas[rows], labels.pose[rows, :width], labels.global_orient[rows], labels.transl[rows]


def _weak_camera(points: torch.Tensor, pixels: torch.Tensor) -> Points | None:
    """(3,): scale, x, y with u = scale X + (x, y), least squares; None where fewer than two points are known.

    points: (N, 3).  pixels: (N, 3) with confidence.
    """
    known = pixels[:, 2] > 0
    if known.sum() < 2:
        return None
    flat, seen = points[known, :2].double().numpy(), pixels[known, :2].double().numpy()
    centre, middle = flat.mean(0), seen.mean(0)
    scale = ((flat - centre) * (seen - middle)).sum() / max(((flat - centre) ** 2).sum(), 1e-12)
    return np.array([scale, *(middle - scale * centre)], np.float32)


def _seen(points: torch.Tensor, camera: Points) -> Points:
    return np.asarray(camera[0] * points[:, :2].numpy() + camera[1:], np.float32)
