"""Turns a finished record into a sample: labels in crop pixels, provenance, encoded crop, key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.config import JpegQuality
from handface.pipeline.contract.detections import Hand
from handface.pipeline.contract.images.affine import move_points
from handface.pipeline.contract.names.url_names import copyable_url
from handface.pipeline.contract.sample import LEFT, RIGHT, Crop, Labels, Sample, SampleMeta, Source, sample_key
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# List columns with a meaning of their own, and the field of `Source` each fills.
_KNOWN_COLUMNS = {"page": "page", "licence": "licence", "license": "licence", "author": "author"}


@dataclass(frozen=True)
class PackConfig:
    """How a sample is written."""

    jpeg_quality: JpegQuality = 92
    """Of the stored crop, 4:4:4 sampling."""
    depth_maps: bool = False
    """Also store the dense depth of the first depth annotator as a 16-bit PNG."""


class PackStage(Stage):
    """Fills record.sample. `fetched_at` is the run's day, so that a repeated unit gives the same bytes."""

    name = "pack"
    reads = ("crop", "affine", "face", "person_hands", "scores", "original_size", "sha256", "phash")
    writes = ("sample",)
    drops = ("crop", "skin", "depth_maps")

    def __init__(self, config: PackConfig = PackConfig(), fetched_at: str | None = None) -> None:
        self.config, self.fetched_at = config, fetched_at

    def __call__(self, batch: Sequence[Record]) -> None:
        """Pack each record and free what it held."""
        import simplejpeg

        for record in batch:
            image = simplejpeg.encode_jpeg(
                record.crop, self.config.jpeg_quality, colorspace="RGB", colorsubsampling="444"
            )
            meta = self._meta(record, sample_key(image))
            record.sample = Sample(image, crop_labels(record), meta, self._depth_png(record))
            record.crop = record.skin = None
            record.depth_maps.clear()

    def _depth_png(self, record: Record) -> bytes | None:
        if not self.config.depth_maps or not record.depth_maps:
            return None
        from handface.pipeline.contract.images.depth_map import encode_depth_png

        return encode_depth_png(next(iter(record.depth_maps.values())))

    def _meta(self, record: Record, key: str) -> SampleMeta:
        assert record.crop is not None and record.affine is not None and record.original_size is not None
        columns = dict(record.item.columns)
        known = {_KNOWN_COLUMNS[name]: columns.pop(name) for name in list(columns) if name in _KNOWN_COLUMNS}
        evidence = {k.removeprefix("evidence."): columns.pop(k) for k in list(columns) if k.startswith("evidence.")}
        origin, fetched_at = record.item.origin, columns.pop("fetched_at", None)
        if origin != copyable_url(record.item.uri):
            del columns["url"]
        elif origin.startswith(("http://", "https://")):
            fetched_at = self.fetched_at
        source = Source(
            uri=origin,
            sha256=record.sha256 or "",
            phash=record.phash or "",
            member=record.item.member,
            fetched_at=fetched_at,
            evidence=dict(sorted((evidence | record.evidence).items())),
            columns=dict(sorted(columns.items())),
            **known,
        )
        rows = [tuple(round(float(value), 6) for value in row) for row in record.affine]
        crop = Crop((rows[0], rows[1], rows[2]), record.crop.shape[0], *record.original_size)  # type: ignore[arg-type]
        return SampleMeta(key, source, crop, record.scores, tuple(record.annotators))


def crop_labels(record: Record) -> Labels:
    """The record's keypoints, mesh and depth in crop pixels."""
    assert record.face is not None and record.affine is not None
    to_crop = np.linalg.inv(record.affine)
    hands = record.person_hands
    return Labels(
        face_keypoints_2d=move_points(record.face.keypoints, to_crop),
        hand_keypoints_2d=np.stack([move_points(hand.keypoints, to_crop) for hand in hands]),
        hand_side=np.array([_side(hand) for hand in hands], np.uint8),
        face_mesh=None if record.face.mesh is None else _moved_mesh(record.face.mesh, to_crop),
        keypoint_depth=record.keypoint_depth,
    )


def _moved_mesh(points: NDArray[np.float32], to_crop: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 3) photo pixels and depth in pixels -> the same of the crop."""
    moved = move_points(points, to_crop)
    moved[:, 2] = points[:, 2] * to_crop[0, 0]
    return moved


def _side(hand: Hand) -> int:
    return RIGHT if hand.side == "right" else LEFT
