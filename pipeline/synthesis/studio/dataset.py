"""How large a synthetic dataset in Decaf's layout is, and what decides its files."""

from __future__ import annotations

from dataclasses import dataclass, field

from handface.pipeline.contract.config import BaseConfig
from handface.pipeline.synthesis.make import PictureConfig

VERSION = 1  # raise it when the same seed gives other files
CAMERAS = ("108", "102", "110", "100", "121", "084", "122", "111")  # Decaf's, those that alone are often used first
SHORTEST_TAKE = 6  # frames


@dataclass(frozen=True)
class CaptureConfig:
    """How large a dataset in Decaf's layout is."""

    subjects: int = 3
    """People. S1, S3, S6 (and so on by eights) go to test/, the others to train/."""
    cameras: int = 2
    """Cameras that film each subject, 1 to 8."""
    take_frames: int = 60
    """About how many frames pass between two cuts, at 30 per second."""
    width: int = 640
    """Of the videos, pixels; 1920 in Decaf. Even."""
    height: int = 360
    """Of the videos, pixels; 1080 in Decaf. Even."""

    def __post_init__(self) -> None:
        if not 1 <= self.cameras <= len(CAMERAS):
            raise ValueError(f"capture.cameras is {self.cameras}; Decaf has 1 to {len(CAMERAS)}")
        if self.subjects < 1 or self.take_frames < SHORTEST_TAKE:
            raise ValueError(f"capture needs at least one subject and take_frames of at least {SHORTEST_TAKE}")
        if min(self.width, self.height) < 64 or self.width % 2 or self.height % 2:
            raise ValueError(f"capture.width x height is {self.width} x {self.height}; even numbers from 64")


@dataclass(frozen=True, kw_only=True)
class StudioConfig(BaseConfig):
    """Everything that, with a subject's number, decides its files."""

    seed: int = 0
    frames: int
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    pictures: PictureConfig = field(default_factory=PictureConfig)

    def __post_init__(self) -> None:
        least = 2 * self.capture.subjects
        if self.frames < least:
            raise ValueError(f"{self.frames} frames are too few for {self.capture.subjects} subjects; give {least}")

    @property
    def unit_size(self) -> int:
        """Subjects per work unit."""
        return 1

    def frames_of(self, number: int) -> int:
        """Frames of the subject of this number, from 1: all get the same, the first ones the rest."""
        share, rest = divmod(self.frames, self.capture.subjects)
        return share + (number <= rest)
