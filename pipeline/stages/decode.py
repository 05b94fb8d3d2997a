"""Decodes each input's bytes to upright 8-bit RGB pixels."""

from __future__ import annotations

from collections.abc import Sequence

from handface.pipeline.contract.images.picture import DecodeConfig, RejectedImage, decode_image
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage


class DecodeStage(Stage):
    """Fills image (H, W, 3) uint8 RGB and original_size; drops the bytes, and with them EXIF and everything else."""

    name = "decode"
    reads = ("data", "image")
    writes = ("image", "original_size")
    drops = ("data",)

    def __init__(self, config: DecodeConfig = DecodeConfig()) -> None:
        self.config = config

    def __call__(self, batch: Sequence[Record]) -> None:
        """Decode each record that came as bytes."""
        for record in batch:
            try:
                if record.image is None:
                    assert record.data is not None
                    record.image = decode_image(record.data, self.config)
                height, width = record.image.shape[:2]
                if min(height, width) < self.config.min_side:
                    raise RejectedImage(Reason.TOO_SMALL, f"{width}x{height} pixels")
            except RejectedImage as refused:
                record.reject(refused.reason, refused.detail)
                continue
            record.original_size = (width, height)
            record.data = None
