"""Photos with a green dot for each head and a red one for each hand, a detector that knows where they are, and a network that
sees only its crop's pixels and answers with bodies whose head lies on the green dot and whose hand vertex 0 on the red one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch

from handface.model.bodies import ParametricBody, load_body
from handface.model.fitting.config import FitConfig
from handface.model.network.config import DiceConfig, preset
from handface.model.network.heads import BodyParameters
from handface.model.network.output import DiceOutput, PartOutput
from handface.model.network.topology import Topology
from handface.model.prediction.prediction import Detection, NobodyFoundError
from handface.model.prediction.predictor import Predictor, PredictorConfig

SCALE = 400.0  # crop pixels per metre, as the network answers
TOUCHED = 100  # the head vertex in contact
PRESSED = (0.01, -0.02, 0.03)  # the deformation of that vertex


@dataclass(frozen=True)
class Mark:
    """A person. head, hand: photo pixels of the two dots."""

    head: tuple[float, float]
    hand: tuple[float, float]
    side: Literal["left", "right"] = "right"
    size: float = 60.0

    def detection(self) -> Detection:
        """Points around the dots; the boxes' sizes decide the crop."""
        ring = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        face = np.column_stack([np.cos(ring), np.sin(ring)]) * self.size + self.head
        hand = np.column_stack([np.cos(ring[:21]), np.sin(ring[:21])]) * self.size / 4 + self.hand
        known = (np.column_stack([part, np.ones(len(part))]).astype(np.float32) for part in (face, hand))
        return Detection(*known, self.side, 0.8)

    def flipped(self, width: int) -> Mark:
        """The person in the photo's mirror image."""
        other: Literal["left", "right"] = "left" if self.side == "right" else "right"
        return Mark(
            (width - 1 - self.head[0], self.head[1]), (width - 1 - self.hand[0], self.hand[1]), other, self.size
        )


def photo(marks: list[Mark], width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 with the dots."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    image = np.zeros((height, width, 3))
    for mark in marks:
        for channel, (cx, cy) in ((1, mark.head), (0, mark.hand)):
            image[..., channel] += 255 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 4.0**2))
    return np.clip(image, 0, 255).round().astype(np.uint8)


class KnowingDetector:
    """Answers photos in turn with what it was given; with a reason where that is nobody."""

    def __init__(self, *photos: list[Mark]) -> None:
        self.photos = list(photos)

    def __call__(self, image: np.ndarray) -> list[Detection]:
        marks = self.photos.pop(0)
        if not marks:
            raise NobodyFoundError("an empty room")
        return [mark.detection() for mark in marks]


@cache
def bodies() -> tuple[ParametricBody, ParametricBody]:
    return load_body("free-hand", "free"), load_body("free-head", "free")


@cache
def config() -> DiceConfig:
    return preset("dice-s", Topology.from_bodies().sizes)


@cache
def parameters() -> tuple[BodyParameters, BodyParameters]:
    """Some shape and pose, asymmetric, head turned and away from the origin."""
    generator = torch.Generator().manual_seed(3)
    hand, head = bodies()

    def some(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(shape, generator=generator)

    def of(body: ParametricBody, transl: tuple[float, float, float]) -> BodyParameters:
        arrays = body.arrays
        expression = some(1, arrays.num_expressions).abs()
        return BodyParameters(
            some(1, arrays.num_betas), expression, some(1, body.num_pose), some(1, 3), torch.tensor([transl])
        )

    return of(hand, (0.0, 0.0, 0.9)), of(head, (0.2, -0.1, 1.0))


def network(images: torch.Tensor) -> DiceOutput:
    """(B, 3, S, S) uint8 -> bodies on the dots it sees."""
    rows = [_answer(image) for image in images.double()]
    return DiceOutput.unflatten({name: torch.cat([row[name] for row in rows]) for name in rows[0]})


def predictor(*photos: list[Mark], trained: bool = True, batch: int = 8, fit: FitConfig | None = None) -> Predictor:
    return Predictor(network, config(), KnowingDetector(*photos), trained, PredictorConfig(batch=batch), fit=fit)


def _answer(image: torch.Tensor) -> dict[str, torch.Tensor]:
    (hand_body, head_body), (hand, head) = bodies(), parameters()
    green, red = _centre(image[1]), _centre(image[0])
    head_out = head_body(head.betas, head.pose, head.global_orient, head.transl, head.expression)
    origin = head_out.vertices.mean(1)
    rest = hand_body(hand.betas, hand.pose, hand.global_orient, hand.transl)
    move = torch.zeros(1, 3)
    move[:, :2] = origin[:, :2] + (red - green) / SCALE - rest.vertices[:, 0, :2]
    hand = hand._replace(transl=hand.transl + move)
    hand_out = hand_body(hand.betas, hand.pose, hand.global_orient, hand.transl)
    deformation = torch.zeros_like(head_out.vertices)
    deformation[:, TOUCHED] = torch.tensor(PRESSED)
    head_contact = torch.full(head_out.vertices.shape[:2], -10.0)
    head_contact[:, TOUCHED] = 10.0
    hand_contact = torch.linspace(-3, 3, hand_out.vertices.shape[1])[None]
    return DiceOutput(
        PartOutput(hand_out.keypoints, (hand_out.vertices,), (hand_contact,), (), hand),
        PartOutput(head_out.keypoints, (head_out.vertices,), (head_contact,), (deformation,), head),
        camera=torch.cat([torch.full((1, 1), SCALE), green[None]], 1).float(),
        camera_origin=origin,
        presence_logit=torch.tensor([2.0]),
    ).flatten()


def _centre(channel: torch.Tensor) -> torch.Tensor:
    """Brightness centroid of (S, S), pixels x, y."""
    weight = channel / channel.sum().clamp(min=1e-9)
    steps = torch.arange(channel.shape[0], dtype=channel.dtype)
    return torch.stack([(weight.sum(0) * steps).sum(), (weight.sum(1) * steps).sum()]).float()
