"""What is evaluated: the network, the mean pose, and the labels themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch

from handface.model.bodies import ParametricBody
from handface.model.bodies.rotation import axis_angle_to_matrix, nearest_rotation
from handface.model.network.config import DiceConfig
from handface.model.network.deploy.inference import Runner
from handface.model.network.mesh import Mesh, MeshChoice
from handface.model.network.output import DiceOutput
from handface.trainers.batch import Batch
from handface.trainers.evaluation.truth import LabelMeshes
from handface.trainers.metrics.meshes import Meshes, predicted_meshes
from handface.trainers.targets import widen

Truth = Callable[[Batch], Meshes]


@dataclass(frozen=True)
class SystemAnswer:
    """A system's prediction of a batch. direct: the network's own vertices, where there are such.  known: (B,) bool, samples that it has
    an answer for; None: all.  says: whether it has an answer to what a column measures; None: to all.
    """

    meshes: Meshes
    direct: Meshes | None = None
    known: torch.Tensor | None = None
    says: Callable[[str], bool] | None = None


class System(Protocol):
    """Answers batches."""

    def __call__(self, batch: Batch, truth: Meshes) -> SystemAnswer:
        """truth: for the oracle alone."""


@dataclass(frozen=True)
class NetworkSystem:
    """A trained network. run: as `model.network.deploy.inference.prepare` makes it; hand, head: its bodies, on its device.  mesh: which one is
    measured; of the parametric one, errors of the drawn one are measured, too (columns `direct_*`).  points: give networks that look at
    them `Batch.points`: what a detector found where the data set names it, else the labelled 2D keypoints.
    """

    run: Runner
    config: DiceConfig
    hand: ParametricBody
    head: ParametricBody
    mesh: Mesh = "parametric"
    points: bool = True

    def __call__(self, batch: Batch, truth: Meshes) -> SystemAnswer:
        """Predict from the pictures, and from 2D keypoints if the network looks at them."""
        output = self.output(batch)
        drawn = self._meshes(output, "drawn")
        return SystemAnswer(drawn) if self.mesh == "drawn" else SystemAnswer(self._meshes(output, "parametric"), drawn)

    def output(self, batch: Batch) -> DiceOutput:
        """The network's own answer."""
        seen = self.points and self.config.points is not None
        return self.run(batch.images, batch.points) if seen else self.run(batch.images)

    def _meshes(self, output: DiceOutput, mesh: Mesh) -> Meshes:
        chosen = MeshChoice(mesh, self.config, self.hand, self.head)(widen(output))
        return predicted_meshes(chosen, self.hand, self.head, "direct", self.config.camera.origin)


class RunOnce:
    """A runner that answers the same pictures only once when systems ask one after the other."""

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._last: tuple[torch.Tensor, DiceOutput] | None = None

    def __call__(self, images: torch.Tensor, points: torch.Tensor | None = None) -> DiceOutput:
        """The network's output for a batch of pictures."""
        if self._last is None or self._last[0] is not images:
            self._last = images, self._run(images) if points is None else self._run(images, points)
        return self._last[1]


class Oracle:
    """The labels themselves: whatever is not 0 (or 100 %) in its row is the metrics' own, such as the paper's centring."""

    def __call__(self, batch: Batch, truth: Meshes) -> SystemAnswer:
        """The truth, its keypoints where the labels' 2D ones are; of samples without 3D labels there is none."""
        pixels = batch.keypoints_2d[..., :2]
        return SystemAnswer(Meshes(**{**vars(truth), "pixels": pixels}), known=batch.has_mesh)


class MeanPose:
    """The mean of a training set's parameters, whatever the picture: what a network that sees nothing can do.

    Shape, expression and joint rotations are averaged as numbers, orientations as rotations; the hand's centre keeps its mean
    place at the head's. Contact where most training samples have it, mean deformation, and the mean weak-perspective camera
    between true keypoints and labelled pixels.
    """

    def __init__(self, meshes: Meshes) -> None:
        """meshes: of one sample."""
        self.meshes = meshes

    @classmethod
    def of(cls, batches: Iterable[Batch], truth: LabelMeshes) -> MeanPose:
        """The mean of all samples that have a mesh, of the first one's convention. Raises ValueError if none has."""
        mean, camera = _Mean(), _Mean()
        decaf: bool | None = None
        for batch in batches:
            keep = batch.has_mesh if decaf is None else batch.has_mesh & (batch.decaf_head == decaf)
            if decaf is None and bool(keep.any()):
                decaf = bool(batch.decaf_head[keep][0])
                keep = keep & (batch.decaf_head == decaf)
            rows = keep.nonzero()[:, 0]
            if not len(rows):
                continue
            meshes = truth(batch)
            for part in ("hand", "head"):
                labels = getattr(batch, part)
                mean.add({f"{part}_{name}": getattr(labels, name)[rows] for name in ("betas", "expression", "pose")})
                mean.add({f"{part}_turn": axis_angle_to_matrix(labels.global_orient[rows])})
            centre = meshes.head.mean(1, keepdim=True)
            mean.add({"place": meshes.hand[rows].mean(1) - centre[rows, 0]})
            mean.add({n: getattr(meshes, n)[rows] for n in ("deformation", "hand_contact", "head_contact", "presence")})
            points = batch.keypoints_2d[rows]
            cameras = fit_camera((meshes.keypoints - centre)[rows], points)
            camera.add({"camera": cameras[cameras.isfinite().all(1)]})
        if decaf is None:
            raise ValueError("the mean pose needs training samples with 3D labels; these shards have none")
        return cls(
            _mean_meshes(mean, camera, truth.hand, truth.bodies.head_decaf if decaf else truth.bodies.head_plain)
        )

    def __call__(self, batch: Batch, truth: Meshes) -> SystemAnswer:
        """The same for every sample."""
        values = {
            name: None if value is None else value.to(truth.hand.device).expand(len(batch), *value.shape[1:])
            for name, value in vars(self.meshes).items()
        }
        return SystemAnswer(Meshes(**values))  # type: ignore[arg-type]


class _Mean:
    """Running sums by name, in double precision."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Rows (B, ...) of each name."""
        for name, rows in values.items():
            total = rows.double().sum(0)
            self.sums[name] = self.sums[name] + total if name in self.sums else total
            self.counts[name] = self.counts.get(name, 0) + len(rows)

    def __getitem__(self, name: str) -> torch.Tensor:
        """(1, ...) float32."""
        return (self.sums[name] / self.counts[name]).float()[None]


@torch.no_grad()
def _mean_meshes(mean: _Mean, camera: _Mean, hand: ParametricBody, head: ParametricBody) -> Meshes:
    def pose(body: ParametricBody, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        values = {name: mean[f"{part}_{name}"] for name in ("betas", "pose", "expression")}
        values["pose"] = values["pose"][:, : body.num_pose]
        out = body(**values if values["expression"].shape[1] else {n: values[n] for n in ("betas", "pose")})
        centre = out.vertices.mean(1, keepdim=True)
        turn = nearest_rotation(mean[f"{part}_turn"]).mT
        return (out.vertices - centre) @ turn, (out.keypoints - centre) @ turn

    (hand_vertices, hand_keypoints), (head_vertices, head_keypoints) = pose(hand, "hand"), pose(head, "head")
    place = mean["place"][:, None]
    keypoints = torch.cat([head_keypoints, hand_keypoints + place], 1)
    pixels = None
    if camera.counts.get("camera"):
        fitted = camera["camera"]
        pixels = fitted[:, None, :1] * keypoints[..., :2] + fitted[:, None, 1:]
    rest = {name: mean[name] for name in ("deformation", "hand_contact", "head_contact", "presence")}
    return Meshes(hand=hand_vertices + place, head=head_vertices, keypoints=keypoints, pixels=pixels, **rest)


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
