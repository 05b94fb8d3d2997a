"""What can be done with 2D points: the network's answer fitted to them, mean bodies laid onto them, the points themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from handface.model.bodies import ParametricBody
from handface.model.bodies.names import FACE_KEYPOINTS
from handface.model.fitting.config import FitConfig
from handface.model.fitting.people import FitPicture, PeopleFitter, assume_focal
from handface.model.network.decode import PersonDecoder
from handface.model.prediction.crop import Crop
from handface.model.prediction.prediction import Detection, Person
from handface.trainers.batch import Batch
from handface.trainers.evaluation.facts import Facts, PhotoView, name_samples
from handface.trainers.evaluation.systems import NetworkSystem, SystemAnswer
from handface.trainers.metrics.meshes import Meshes

_CONTACT = ("face_", "hand_", "presence_", "agrees_", "judged_")  # columns about touch
_TO_CAMERA = (1.0, -1.0, -1.0)  # of a body at rest, which stands upright and looks at the camera


class FittedSystem:
    """The network's answer moved onto the points that it was given, as `handface predict` does it.

    Where the points say too little for a fit, the answer is the network's. Landmarks in metres, which `predict` has of the detector, are not
    in the samples. Samples whose points are labels are left out: a fit to those would use the right answer.

    Args:
        network: as it is measured by itself.
        facts: by name of the sample; they say how the crop lies in its photo.
        datasets: names of the data sets that `origins` count.
        hand: body file, if not the one that the network names.
        head: likewise.
    """

    def __init__(
        self,
        network: NetworkSystem,
        facts: Mapping[str, Facts],
        datasets: Sequence[str],
        hand: str | None = None,
        head: str | None = None,
    ) -> None:
        self.network, self.facts, self.datasets = network, facts, datasets
        self.decoder = PersonDecoder(network.config, hand, head)
        device = str(network.hand.template.device)
        self.fitter = PeopleFitter(self.decoder.hand, self.decoder.head, FitConfig(), device)

    def __call__(self, batch: Batch, truth: Meshes) -> SystemAnswer:
        """Predict as the network does, then fit."""
        detections = [_detection(points) for points in batch.points.cpu().numpy()]
        pixels = batch.images.permute(0, 2, 3, 1).cpu().numpy()
        crops = [Crop(image, np.eye(3), "right") for image in pixels]  # left hands come mirrored
        people = self.decoder.decode(self.network.output(batch), crops, detections, [1.0] * len(batch))
        facts = _facts_of(batch, self.facts, self.datasets)
        pictures = [
            self._picture(detection, fact, image.shape[0])
            for detection, fact, image in zip(detections, facts, pixels, strict=True)
        ]
        meshes = _meshes(self.fitter.fit(people, pictures), batch.images.device)
        return SystemAnswer(meshes, known=points_are_found(batch, facts))

    def _picture(self, detection: Detection, fact: Facts | None, side: int) -> FitPicture:
        view = PhotoView(1.0, (0.5, 0.5)) if fact is None or fact.view is None else fact.view
        x, y = view.centre
        x = 1 - x if fact is not None and fact.side == "left" else x
        focal = assume_focal(detection, view.longer * side, self.fitter.config)
        return FitPicture(side, side, focal, (x * side - 0.5, y * side - 0.5))


@dataclass(frozen=True)
class PlacedMean:
    """Mean bodies at rest, each turned in the picture, scaled and moved onto the points: what no network is needed for.

    The head keeps its size in metres; the hand gets the one with which it lies on its points at the head's distance. Of touch they say
    nothing.  facts, datasets: as of `FittedSystem`; its samples are left out here, too.
    """

    hand: ParametricBody
    head: ParametricBody
    facts: Mapping[str, Facts]
    datasets: Sequence[str]

    @torch.no_grad()
    def __call__(self, batch: Batch, truth: Meshes) -> SystemAnswer:
        """The same bodies for every sample, placed."""
        face, fingers = batch.points[:, :FACE_KEYPOINTS], batch.points[:, FACE_KEYPOINTS:]
        head, head_points, zoom = place_at_rest(self.head, face)
        hand, hand_points, _ = place_at_rest(self.hand, fingers)
        seen = torch.cat([head_points, hand_points], 1)  # pixels, z too
        scale = zoom[:, None, None]
        return SystemAnswer(
            Meshes(
                hand=hand / scale,
                head=head / scale,
                deformation=torch.zeros_like(head),
                keypoints=seen / scale,
                hand_contact=torch.zeros_like(hand[..., 0]),
                head_contact=torch.zeros_like(head[..., 0]),
                presence=torch.zeros_like(zoom),
                pixels=seen[..., :2],
            ),
            known=points_are_found(batch, _facts_of(batch, self.facts, self.datasets)),
            says=lambda column: not column.startswith(_CONTACT),
        )


class PointsThemselves:
    """The points as they are given: how far a detector's are from the labels."""

    def __call__(self, batch: Batch, truth: Meshes) -> SystemAnswer:
        """Points in the picture; of the rest there is no answer."""
        meshes = Meshes(**{**vars(truth), "pixels": batch.points[..., :2]})
        return SystemAnswer(meshes, known=_differ(batch), says=lambda column: "reprojection" in column)


def points_are_found(batch: Batch, facts: Sequence[Facts | None]) -> torch.Tensor:
    """Which samples (B,) give a network points of a detector: the list that `--found` names has them, or the labels are a detector's."""
    detected = torch.tensor([fact is not None and fact.detected for fact in facts], device=batch.points.device)
    return detected | _differ(batch)


def _facts_of(batch: Batch, facts: Mapping[str, Facts], datasets: Sequence[str]) -> list[Facts | None]:
    return [facts.get(name) for name in name_samples(batch, datasets)]


def _differ(batch: Batch) -> torch.Tensor:
    """Samples (B,) whose points are not the labels."""
    return (batch.points != batch.keypoints_2d).flatten(1).any(1)


def place_at_rest(body: ParametricBody, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A body at rest, laid by a similarity onto points (B, K, 3) x, y, confidence.

    Returns vertices (B, V, 3) and keypoints (B, K, 3) in pixels, z too, and pixels a metre (B,).
    """
    out = body()
    facing = out.vertices.new_tensor(_TO_CAMERA)
    keypoints, vertices = out.keypoints[0] * facing, out.vertices[0] * facing
    weight = points[..., 2:].clamp(min=0)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-9)
    about, target = (weight * keypoints[:, :2]).sum(1), (weight * points[..., :2]).sum(1)
    x, u = keypoints[None, :, :2] - about[:, None], points[..., :2] - target[:, None]
    size = (weight * x.square()).sum((1, 2)).clamp(min=1e-12)
    along = (weight * x * u).sum((1, 2)) / size
    across = (weight[..., 0] * (x[..., 0] * u[..., 1] - x[..., 1] * u[..., 0])).sum(1) / size
    zoom = (along.square() + across.square()).sqrt().clamp(min=1e-6)
    turn = torch.stack([along, -across, across, along], 1).unflatten(1, (2, 2))

    def move(x: torch.Tensor) -> torch.Tensor:
        flat = (x[None, :, :2] - about[:, None]) @ turn.mT + target[:, None]
        return torch.cat([flat, x[:, 2:] * zoom[:, None, None]], 2)

    return move(vertices), move(keypoints), zoom


def _detection(points: np.ndarray) -> Detection:
    """(89, 3) x, y, confidence as a detector would give them."""
    known = points[points[:, 2] > 0, 2]
    confidence = float(known.mean()) if len(known) else 0.0
    return Detection(points[:FACE_KEYPOINTS], points[FACE_KEYPOINTS:], "right", confidence)


def _meshes(people: Sequence[Person], device: torch.device) -> Meshes:
    """People as what is measured."""

    def stack(values: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(values)).float().to(device)

    keypoints = [np.concatenate([one.head.keypoints_3d, one.hand.keypoints_3d]) for one in people]
    return Meshes(
        hand=stack([one.hand.vertices for one in people]),
        head=stack([one.head.vertices + one.head.deformation for one in people]),
        deformation=stack([one.head.deformation for one in people]),
        keypoints=stack(keypoints),
        hand_contact=stack([one.hand.contact for one in people]),
        head_contact=stack([one.head.contact for one in people]),
        presence=stack([np.array(one.presence) for one in people]),
        pixels=stack([one.camera.project(points) for one, points in zip(people, keypoints, strict=True)]),
    )
