"""What is evaluated: the network, the mean pose, and the labels themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch

from model.bodies import ParametricBody
from model.inference import Runner
from trainers.batch import Batch
from trainers.metrics.meshes import Meshes, predicted_meshes

Truth = Callable[[Batch], Meshes]


@dataclass(frozen=True)
class Answer:
    """A system's prediction of a batch. direct: the network's own vertices, where there are such."""

    meshes: Meshes
    direct: Meshes | None = None


class System(Protocol):
    """Answers batches."""

    def __call__(self, batch: Batch, truth: Meshes) -> Answer:
        """truth: for the oracle alone."""


@dataclass(frozen=True)
class Network:
    """A trained network. run: as `model.inference.prepare` makes it; hand, head: its bodies, on its device."""

    run: Runner
    hand: ParametricBody
    head: ParametricBody
    camera_origin: str = "head_mean"

    def __call__(self, batch: Batch, truth: Meshes) -> Answer:
        """Predict from the pictures alone."""
        output = self.run(batch.images)
        origin = "world" if self.camera_origin == "world" else "head_mean"
        return Answer(
            predicted_meshes(output, self.hand, self.head, "parametric", origin),  # type: ignore[arg-type]
            predicted_meshes(output, self.hand, self.head, "direct", origin),  # type: ignore[arg-type]
        )


class Oracle:
    """The labels themselves: whatever is not 0 (or 100 %) in its row is the metrics' own, such as the paper's centring."""

    def __call__(self, batch: Batch, truth: Meshes) -> Answer:
        """The truth, its keypoints where the labels' 2D ones are."""
        pixels = torch.cat([batch.face_keypoints_2d, batch.hand_keypoints_2d], 1)[..., :2]
        return Answer(Meshes(**{**vars(truth), "pixels": pixels}))


class MeanPose:
    """The mean over a training set, whatever the picture: what a network that sees nothing can do at best, nearly.

    The mean of vertices, keypoints and deformation about the head's mean; contact where most training samples have it; and
    the mean weak-perspective camera that maps the true keypoints to the labelled pixels.
    """

    def __init__(self, meshes: Meshes) -> None:
        """meshes: of one sample."""
        self.meshes = meshes

    @classmethod
    def of(cls, batches: Iterable[Batch], truth: Truth) -> MeanPose:
        """The mean of all samples that have a mesh. Raises ValueError if none has."""
        total: dict[str, torch.Tensor] = {}
        count, seen = 0, 0
        camera = torch.zeros(3, dtype=torch.float64)
        for batch in batches:
            keep = batch.has_mesh.nonzero()[:, 0]
            if not len(keep):
                continue
            meshes = truth(batch)
            origin = meshes.head[keep].mean(1, keepdim=True)
            for name in ("hand", "head", "keypoints"):
                _add(total, name, getattr(meshes, name)[keep] - origin)
            for name in ("deformation", "hand_contact", "head_contact", "presence"):
                _add(total, name, getattr(meshes, name)[keep])
            labels = torch.cat([batch.face_keypoints_2d, batch.hand_keypoints_2d], 1)[keep]
            cameras = fit_camera(meshes.keypoints[keep] - origin, labels)
            usable = cameras.isfinite().all(1)
            camera += cameras[usable].double().sum(0).cpu()
            count, seen = count + len(keep), seen + int(usable.sum())
        if count == 0:
            raise ValueError("the mean pose needs training samples with 3D labels; these shards have none")
        mean = {name: (value / count).float()[None] for name, value in total.items()}
        mean["presence"] = mean["presence"].reshape(1)
        if seen:
            scale, tx, ty = (camera / seen).tolist()
            mean["pixels"] = scale * mean["keypoints"][..., :2] + torch.tensor([tx, ty]).to(mean["keypoints"])
        return cls(Meshes(**mean))

    def __call__(self, batch: Batch, truth: Meshes) -> Answer:
        """The same for every sample."""
        values = {
            name: None if value is None else value.to(truth.hand.device).expand(len(batch), *value.shape[1:])
            for name, value in vars(self.meshes).items()
        }
        return Answer(Meshes(**values))  # type: ignore[arg-type]


def _add(total: dict[str, torch.Tensor], name: str, values: torch.Tensor) -> None:
    added = values.double().sum(0)
    total[name] = total[name] + added if name in total else added


def fit_camera(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """s, tx, ty of u = s X + t in least squares over keypoints, weighted by their confidence. points: (B, K, 3).  labels: (B, K, 3)
    x, y, confidence. Returns (B, 3); NaN where there are fewer than 3 points.
    """
    weight = labels[..., 2:].clamp(min=0).double()
    x, u = points[..., :2].double(), labels[..., :2].double()
    total = weight.sum(1, keepdim=True).clamp(min=1e-12)
    x_mean, u_mean = (weight * x).sum(1, keepdim=True) / total, (weight * u).sum(1, keepdim=True) / total
    x, u = x - x_mean, u - u_mean
    scale = (weight * x * u).sum((1, 2)) / (weight * x * x).sum((1, 2)).clamp(min=1e-12)
    shift = u_mean[:, 0] - scale[:, None] * x_mean[:, 0]
    camera = torch.cat([scale[:, None], shift], 1)
    enough = (weight[..., 0] > 0).sum(1) >= 3
    return torch.where(enough[:, None], camera, torch.nan).float()
