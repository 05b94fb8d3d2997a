"""Faces of many pictures: two detectors propose, the mesh network confirms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from handface.model.prediction.view import expand_box, iou
from handface.pipeline.annotators.landmarks import face_from_mesh, longer_side
from handface.pipeline.annotators.networks.mediapipe import FaceDetector, FaceMesh, FoundFace
from handface.pipeline.annotators.networks.regions import NetworkPicture, square_region
from handface.pipeline.annotators.search.config import DetectorConfig
from handface.pipeline.contract.detections import Face

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FaceSearch:
    """Finds faces with their meshes."""

    def __init__(self, near: FaceDetector, far: FaceDetector, mesh: FaceMesh, config: DetectorConfig) -> None:
        self._near, self._far, self._mesh, self.config = near, far, mesh, config

    def __call__(self, pictures: Sequence[NetworkPicture]) -> list[list[Face]]:
        """Faces with mesh and 68 landmarks, largest first.

        In a crowd, faces beyond the `max_faces` largest are returned as boxes only (mesh None).
        """
        proposals = self._propose(pictures)
        wanted = [(i, face) for i, some in enumerate(proposals) for face in some[: self.config.max_faces]]
        faces: list[list[Face]] = [[] for _ in pictures]
        for (i, _), face in zip(wanted, self._place_meshes(pictures, wanted), strict=True):
            if face is not None and all(iou(face.box, other.box) < 0.4 for other in faces[i]):
                faces[i].append(face)
        for some, proposed in zip(faces, proposals, strict=True):
            some += [_box_only(proposal) for proposal in proposed[self.config.max_faces :]]
            some.sort(key=lambda face: -face.size)
        return faces

    def _propose(self, pictures: Sequence[NetworkPicture]) -> list[list[FoundFace]]:
        """Faces on the whole pictures, of each place the surest, the largest first."""
        crops = [(picture, picture.whole()) for picture in pictures]
        near = self._near(crops, self.config.face_threshold)
        far = self._far(crops, self.config.far_face_threshold)
        proposals = []
        for found in (sorted(a + b, key=lambda face: -face.score) for a, b in zip(near, far, strict=True)):
            kept: list[FoundFace] = []
            for face in found:
                if all(iou(face.box, other.box) < 0.3 for other in kept):
                    kept.append(face)
            proposals.append(sorted(kept, key=lambda face: -longer_side(face.box)))
        return proposals

    def _place_meshes(
        self, pictures: Sequence[NetworkPicture], wanted: Sequence[tuple[int, FoundFace]]
    ) -> list[Face | None]:
        """The mesh of each proposal, its crop set by a second look from near; None if no face shows there."""
        around = [(pictures[i], square_region(expand_box(proposal.box, 1.7))) for i, proposal in wanted]
        looks = self._near(around, self.config.face_threshold / 2)
        regions = [
            max(found, key=lambda face: iou(face.box, proposal.box), default=proposal).region
            for (_, proposal), found in zip(wanted, looks, strict=True)
        ]
        meshes = self._mesh([(pictures[i], region) for (i, _), region in zip(wanted, regions, strict=True)])
        faces: list[Face | None] = []
        for (_, proposal), mesh in zip(wanted, meshes, strict=True):
            face = face_from_mesh(centre_pixels(mesh.points), proposal.score, "mesh")
            seen = mesh.score >= self.config.mesh_threshold and iou(face.box, proposal.box) >= 0.15
            faces.append(face if seen else None)
        return faces


def centre_pixels(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points whose pixels' centres are at integers, from those where they are at halves."""
    return points - np.array([0.5, 0.5, 0], np.float32)[: points.shape[1]]


def _box_only(found: FoundFace) -> Face:
    return Face(found.box, found.score, np.zeros((68, 3), np.float32), None, "crowd")
