"""Thresholds and limits of the default detector."""

from __future__ import annotations

from dataclasses import dataclass, field

from handface.pipeline.annotators.networks.runtime import RuntimeConfig
from handface.pipeline.contract.config import Count, Share


@dataclass(frozen=True)
class DetectorConfig:
    """Thresholds and limits of the detector."""

    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    face_threshold: Share = 0.5
    """Score of a face on the whole picture, short range."""
    far_face_threshold: Share = 0.6
    """The same, full range."""
    mesh_threshold: Share = 0.5
    """Score of the mesh network, that its crop shows a face."""
    palm_threshold: Share = 0.5
    """A palm this sure counts wherever it is."""
    weak_palm_threshold: Share = 0.15
    """A palm this weak is looked at if it is near a face; it counts if another view makes up for it."""
    hand_threshold: Share = 0.5
    """Score of the landmark network, that its crop shows a hand."""
    max_faces: Count = 6
    """Faces whose mesh is placed, the largest first; the others of a crowd are boxes."""
    searched_faces: int = 2
    """Faces around which hands are searched, the largest first."""
    max_side: Count = 1280
    """Pictures are shrunk to this where a network sees more than twice its own size."""
    agreement: Share = 0.7
    """Two views agree on a hand from this score on (1 - mean point distance / hand size)."""
