"""A first phase without pictures: what the detector's points alone tell of hand and head.

Most of where a hand and a head are, how they are turned and how the fingers bend follows from the 89 points. The heads that read the
points learn it here from annotations only; the training proper then starts from there and adds what pictures show.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from handface.model.bodies.names import KEYPOINTS
from handface.model.network.dice import Dice
from handface.trainers.bodies import Bodies, at_levels, pose_body
from handface.trainers.data import make_pass
from handface.trainers.data.config import AugmentConfig, DataConfig, DatasetConfig
from handface.trainers.targets import make_targets

_CAMERA, _PRESENCE = 0.1, 0.01  # of a picture's half side, and of a logit, against a metre
_POSED = 4  # bodies are posed for one sample of so many: that costs more than all the rest


@dataclass(frozen=True)
class PointsPhase:
    """How long, and how the points are varied, as `AugmentConfig` does with pictures."""

    steps: int = 3500
    batch_size: int = 128
    lr: float = 2e-3
    rotation: float = 40.0
    """Degrees either way."""
    scale: float = 0.25
    translation: float = 0.05
    found: float = 0.75
    """Chance that a sample's points are those the detector found, where they are known."""
    seed: int = 0


@dataclass(frozen=True)
class PointLabels:
    """N samples without their pictures.

    points: (N, 89, 3) pixels of the network's picture and confidence, as labelled.  found: (N, 89, 3) as the detector found them; the
    labels where that is not known.  tokens: (N, T, 3) metres, where the network's tokens
    truly are, about the head's mean.  presence: (N,) 0 or 1, NaN where nobody knows.
    """

    points: torch.Tensor
    found: torch.Tensor
    tokens: torch.Tensor
    presence: torch.Tensor

    @classmethod
    def read(cls, network: Dice, shards: tuple[str, ...], lists: tuple[str, ...] = ()) -> PointLabels:
        """All samples with 3D labels. lists: what the detector finds in them (`DatasetConfig.found`).  Raises ValueError if there are none, or for a network that does not look at points."""
        require_points(network)
        sets = tuple(DatasetConfig(f"set-{index}", (uri,), found=lists) for index, uri in enumerate(shards))
        size, bodies = network.config.input.size, Bodies.of(network.config)
        data = DataConfig(sets, image_size=size, batch_size=64, augment=AugmentConfig.none())
        points, found, tokens, presence = [], [], [], []
        for batch in make_pass(data, pin_memory=False):
            truth, rows = make_targets(batch, bodies), batch.has_mesh
            hand, head = truth.hand, truth.head
            placed = torch.cat([hand.keypoints, head.keypoints, hand.vertices[-1], head.vertices[-1]], 1)
            points.append(batch.keypoints_2d[rows])
            found.append(batch.points[rows])
            tokens.append(placed[rows])
            presence.append(torch.where(truth.has_contact, truth.presence, torch.nan)[rows])
        if not sum(len(part) for part in points):
            raise ValueError(f"no sample with 3D labels in {', '.join(shards)}")
        return cls(torch.cat(points), torch.cat(found), torch.cat(tokens), torch.cat(presence))

    def varied(self, rows: torch.Tensor, size: int, config: PointsPhase) -> PointLabels:
        """Some samples, turned in the picture plane, zoomed and shifted; labels move with them."""
        turn, zoom, right, down = (2 * torch.rand(4, len(rows)) - 1).unbind()
        angle = turn * torch.deg2rad(torch.tensor(config.rotation))
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        about = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], 1).unflatten(1, (3, 3))
        middle = (size - 1) / 2
        given = torch.rand(len(rows), 1, 1) < config.found
        points = torch.stack([self.points[rows], torch.where(given, self.found[rows], self.points[rows])], 1)
        places = (points[..., :2] - middle) @ about[:, None, :2, :2].mT * (1 + config.scale * zoom)[:, None, None, None]
        shift = config.translation * size * torch.stack([right, down], 1)[:, None, None]
        labels, found = torch.cat([places + middle + shift, points[..., 2:]], 3).unbind(1)
        return PointLabels(labels, found, self.tokens[rows] @ about.mT, self.presence[rows])


def require_points(network: Dice) -> None:
    """Raise ValueError for a network without point cells, a placement, and a camera that is read from cells."""
    if network.point_cells is None or network.placement is None or network.config.camera.read != "cells":
        raise ValueError(f"{network.config.preset} does not look at points: there is nothing to learn without pictures")


def learn_points(network: Dice, labels: PointLabels, config: PointsPhase = PointsPhase()) -> float:
    """Train the heads of `network` that read feature cells, with cells of points only; the network is changed. Returns the last loss.

    Raises ValueError for a network without point cells or a placement.
    """
    require_points(network)
    assert network.point_cells is not None and network.placement is not None
    torch.manual_seed(config.seed)
    network.train()
    heads = [network.point_cells, network.placement, network.camera, network.presence]
    heads += [network.hand_parameters, network.head_parameters]
    bodies = Bodies.of(network.config)
    parameters = [parameter for head in heads for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, config.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.steps)
    loss = torch.tensor(0.0)
    for _ in range(config.steps):
        rows = torch.randint(len(labels.points), (config.batch_size,))
        loss = point_loss(network, bodies, labels.varied(rows, network.config.input.size, config))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    network.eval()
    return float(loss.detach())


def point_loss(network: Dice, bodies: Bodies, labels: PointLabels) -> torch.Tensor:
    """Metres by which the placed template and the posed bodies miss hand and head, points in the picture, presence of contact."""
    assert network.point_cells is not None and network.placement is not None
    blank = labels.points.new_zeros(len(labels.points), network.picture_cells, network.backbone.features)
    cells = torch.cat([blank, network.point_cells(labels.found, blank)], 1)
    groups = list(network.config.sizes.groups)
    placed = network.placement(cells, network.template)
    loss = _miss(placed, labels.tokens, groups)
    few = slice(max(len(cells) // _POSED, 2))
    loss = loss + _miss(posed_tokens(network, bodies, placed[few]), labels.tokens[few], groups)
    true = labels.tokens[:, :KEYPOINTS].roll(-groups[0], 1)  # as the points are ordered: face, hand
    camera, size = network.camera(cells), network.config.input.size
    seen = camera[:, None, :1] * true[..., :2] + camera[:, None, 1:]
    known = labels.points[..., 2] > 0
    loss = loss + _CAMERA * ((seen - labels.points[..., :2]).abs().sum(2)[known] / (size / 2)).mean()
    told = labels.presence.isfinite()
    logits, touching = network.presence(cells)[told], labels.presence[told]
    return loss + _PRESENCE * F.binary_cross_entropy_with_logits(logits, touching) if told.any() else loss


def posed_tokens(network: Dice, bodies: Bodies, placed: torch.Tensor) -> torch.Tensor:
    """Where the tokens of the bodies are that the network's regressors read from a drawn mesh. (B, T, 3) -> (B, T, 3)."""
    _, _, hand_drawn, head_drawn = placed.split(list(network.config.sizes.groups), 1)
    hand_read, head_read = network.regressor_inputs(
        network.hand_up(hand_drawn), network.head_up(head_drawn), network.config.regressor.detached
    )
    hand = pose_body(bodies.hand, network.hand_parameters(*hand_read))
    head = pose_body(bodies.head, network.head_parameters(*head_read))
    coarse = [at_levels(body, out.vertices)[-1] for body, out in ((bodies.hand, hand), (bodies.head, head))]
    return torch.cat([hand.keypoints, head.keypoints, *coarse], 1) - head.vertices.mean(1, keepdim=True)


def _miss(found: torch.Tensor, true: torch.Tensor, groups: list[int]) -> torch.Tensor:
    """L1 in metres, the mean over each group of tokens, summed."""
    return torch.stack([part.mean() for part in (found - true).abs().sum(2).split(groups, 1)]).sum()
