"""Pictures of single samples: the crop, the prediction over it, the truth over it, and both from the side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.prediction.prediction import CONTACT_PROBABILITY
from handface.model.render import Lighting, Material, Mesh, Texture, WeakPerspectiveCamera, render, vertex_normals
from handface.model.render.texture import to_linear, to_srgb
from handface.trainers.batch import Batch
from handface.trainers.evaluation.systems import System, fit_camera
from handface.trainers.evaluation.truth import LabelMeshes
from handface.trainers.metrics import Records
from handface.trainers.metrics.meshes import Meshes

Kind = Literal["best", "median", "worst"]
Image = NDArray[np.uint8]
_HAND, _HEAD, _TOUCH = (0.85, 0.55, 0.35), (0.55, 0.65, 0.8), (0.8, 0.1, 0.3)
_LIGHT = Lighting(shadow_size=0)
_SIDE = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # turned by 90 degrees about the vertical


@dataclass(frozen=True)
class Case:
    """A sample worth looking at. error: of the metric that ranked it, in `unit`."""

    key: str
    kind: Kind
    error: float
    unit: str


def choose(records: Records, count: int) -> list[Case]:
    """The best, median and worst samples, `count` of each at most: by PVE* where 3D labels exist, else by 2D error."""
    mesh = records.columns.get("frames", np.zeros(0)) > 0
    nothing = np.zeros(len(records))
    error, known = (
        records.columns.get(name, nothing) + records.columns.get(f"detector_{name}", nothing)
        for name in ("reprojection", "reprojection_known")
    )
    flat = known > 0
    if mesh.any():
        rows, errors, unit = np.flatnonzero(mesh), 1e3 * records.columns["pve"], "mm PVE*"
    elif flat.any():
        rows, errors, unit = np.flatnonzero(flat), 100 * error, "% 2D error"
    else:
        return []
    order = rows[np.argsort(errors[rows], kind="stable")]
    count = min(count, len(order) // 3 or 1)
    middle = max((len(order) - count) // 2, 0)
    picked: list[tuple[Kind, NDArray[np.int64]]] = [
        ("worst", order[::-1][:count]),
        ("median", order[middle : middle + count]),
        ("best", order[:count]),
    ]
    seen: set[int] = set()
    cases = []
    for kind, found in picked:
        for row in found.tolist():
            if row not in seen:
                seen.add(row)
                cases.append(Case(records.keys[row], kind, float(errors[row]), unit))
    return cases


@dataclass(frozen=True)
class PictureView:
    """Meshes of B samples and where their keypoints are in the pictures. points: (B, 89, 3) x, y, weight."""

    meshes: Meshes
    points: torch.Tensor

    def camera(self, index: int, size: int) -> WeakPerspectiveCamera:
        """The weak-perspective camera that fits one sample's keypoints, about its head's mean; the middle of the picture if none does."""
        keypoints = self.meshes.keypoints[index] - self.meshes.head[index].mean(0)
        scale, tx, ty = fit_camera(keypoints[None], self.points[index][None])[0].tolist()
        if not np.isfinite([scale, tx, ty]).all():
            scale, tx, ty = 3.0 * size, (size - 1) / 2, (size - 1) / 2
        return WeakPerspectiveCamera(scale, (tx, ty), size, size)


@dataclass(frozen=True)
class Drawer:
    """Draws cases. hand_faces, head_faces: (F, 3)."""

    hand_faces: NDArray[np.int64]
    head_faces: NDArray[np.int64]

    def draw(self, image: Image, prediction: PictureView, truth: PictureView | None, index: int) -> Image:
        """One sheet (S, n S, 3): picture, prediction, truth if there is one, prediction from the side, truth from the side.

        image: (S, S, 3).  index: the sample's row in both.
        """
        size = image.shape[0]
        known = [view for view in (prediction, truth) if view is not None]
        panels = [image, *(self._panel(view.meshes, index, view.camera(index, size), image) for view in known)]
        scale = 0.8 * prediction.camera(index, size).scale
        side = WeakPerspectiveCamera(scale, ((size - 1) / 2, (size - 1) / 2), size, size)
        panels += [self._panel(view.meshes, index, side, None, _SIDE) for view in known]
        return np.concatenate(panels, 1)

    def _panel(
        self,
        meshes: Meshes,
        index: int,
        camera: WeakPerspectiveCamera,
        behind: Image | None,
        turn: NDArray[np.float64] | None = None,
    ) -> Image:
        origin = meshes.head[index].mean(0)
        drawn = []
        for vertices, faces, colour, contact in (
            (meshes.hand[index], self.hand_faces, _HAND, meshes.hand_contact[index]),
            (meshes.deformed[index], self.head_faces, _HEAD, meshes.head_contact[index]),
        ):
            points = (vertices - origin).double().cpu().numpy()
            points = (points if turn is None else points @ turn.T).astype(np.float32)
            normals = vertex_normals(points, faces)
            touching = (contact > CONTACT_PROBABILITY).cpu().numpy()[faces].any(1)
            for part, shade in ((faces[~touching], colour), (faces[touching], _TOUCH)):
                if len(part):
                    material = Material(Texture.plain(shade), specular=0.1)
                    drawn.append(Mesh(points, part, material, normals=normals))
        background = np.ones((camera.height, camera.width, 3), np.float32) if behind is None else to_linear(behind)
        picture = render(drawn, camera, _LIGHT, background, supersample=2, cull=False)
        return to_srgb(picture.colour)


def draw_cases(
    cases: Sequence[Case],
    batches: Iterable[Batch],
    system: System,
    truth: LabelMeshes,
    progress: Callable[[int], None] = lambda count: None,
    name_samples: Callable[[Batch], Sequence[str]] = lambda batch: batch.keys,
) -> dict[Kind, list[tuple[Case, Image]]]:
    """Sheets of the cases by kind, in their order. batches: all samples, on the truth's device, read as far as needed.  name_samples: what
    `cases` call a batch's samples.
    """
    drawer = Drawer(truth.hand.faces.cpu().numpy(), truth.head.faces.cpu().numpy())
    wanted = {case.key for case in cases}
    sheets: dict[str, Image] = {}
    for batch in batches if wanted else ():
        names = name_samples(batch)
        mine = [index for index, name in enumerate(names) if name in wanted]
        if mine:
            expected, labels = truth(batch), batch.keypoints_2d
            meshes = system(batch, expected).meshes
            points = labels
            if meshes.pixels is not None:
                points = torch.cat([meshes.pixels, torch.ones_like(meshes.pixels[..., :1])], -1)
            for index in mine:
                image = batch.images[index].permute(1, 2, 0).cpu().numpy()
                known = PictureView(expected, labels) if bool(batch.has_mesh[index]) else None
                sheets[names[index]] = drawer.draw(image, PictureView(meshes, points), known, index)
                progress(1)
        if len(sheets) == len(wanted):
            break
    found: dict[Kind, list[tuple[Case, Image]]] = {"worst": [], "median": [], "best": []}
    for case in cases:
        if case.key in sheets:
            found[case.kind].append((case, sheets[case.key]))
    return {kind: drawn for kind, drawn in found.items() if drawn}
