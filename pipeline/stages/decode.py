"""Decodes each input's bytes to upright 8-bit RGB pixels."""

from __future__ import annotations

from collections.abc import Sequence

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.picture import DecodeConfig, RejectedImage, decode_image
from handface.pipeline.engine.record import Record, Resources


class DecodeStage:
    """Fills image (H, W, 3) uint8 RGB and original_size; drops the bytes, and with them EXIF and everything else."""

    name = "decode"
    resources = Resources(num_cpus=1)

    def __init__(self, config: DecodeConfig = DecodeConfig()) -> None:
        self.config = config

    def setup(self) -> None:
        """Nothing to load."""

    def start_unit(self) -> None:
        """Nothing is remembered between photos."""

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
