"""Which frames of Decaf become samples, and how; without torch, so that `handface decaf-to-shards --help` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from handface.pipeline.contract.config import BaseConfig, JpegQuality
from handface.pipeline.decaf.layout import Split

VERSION = 1  # raise it when the same files give other samples


@dataclass(frozen=True, kw_only=True)
class DecafConfig(BaseConfig):
    """Everything that, with the dataset's files, decides the bytes of the samples."""

    decaf: str
    """The dataset's folder: it holds train/, test/ and assets/."""
    split: Split = "train"
    """Which half."""
    subjects: tuple[str, ...] = ()
    """Subjects to convert, such as S2 S4; all that exist if not given."""
    cameras: tuple[str, ...] = ()
    """Cameras to convert, such as 108; all that exist if not given."""
    hand_model: str | None = None
    """Hand body (free-hand or an imported .npz); assets/mano_v1_2/models/MANO_RIGHT.pkl if not given."""
    head_model: str | None = None
    """Head body (free-head or an imported .npz); assets/generic_model.pkl and landmark_embedding.npy if not given."""
    jpeg_quality: JpegQuality = 92
    """Of the stored picture, 4:4:4 sampling."""
    licence: str = "Decaf: non-commercial, no redistribution"
    """Written into every sample."""
    author: str = "Decaf"
    """Whom the pictures are by, written into every sample."""
    unit_size: int = 512
    """Frames per work unit, hence per part. Videos are decoded forward, so small units decode much twice."""

    def __post_init__(self) -> None:
        if self.unit_size < 1:
            raise ValueError(f"unit_size is {self.unit_size}; a unit needs at least one frame")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the place of the dataset."""
        plain = super().as_dict()
        del plain["decaf"]
        return plain
