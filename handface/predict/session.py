"""What `handface.load` returns: photos and videos in, predictions out."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from handface.predict.inputs import InputError, PhotoReader

if TYPE_CHECKING:
    from PIL.Image import Image

    from handface.model.prediction.prediction import Prediction
    from handface.model.prediction.predictor import Predictor
    from handface.model.prediction.video import Frame, VideoConfig


class HandFace:
    """A predictor that takes paths, URLs, arrays and Pillow images.

    trained: False if the network's weights are fresh random numbers; then the meshes mean nothing.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._reader = PhotoReader()
        weakref.finalize(self, self._reader.close)

    @property
    def trained(self) -> bool:
        """Whether the network was ever trained."""
        return self.predictor.trained

    def predict(self, image: str | Path | NDArray[np.uint8] | Image) -> Prediction:
        """Everybody with a hand near their face.

        image: path, URL, Pillow image, or array (H, W, 3) uint8 RGB, grey, or with alpha; files are turned upright by EXIF.
        Raises InputError (a ValueError) if it is no usable photo. No person is an answer: see `Prediction.reason`.
        The prediction keeps the picture, so that it can `plot` and `save` itself.
        """
        return next(self.predict_many([image]))

    def predict_many(self, images: Iterable[str | Path | NDArray[np.uint8] | Image]) -> Iterator[Prediction]:
        """One prediction per photo, in order; the network gets crops of several photos at once.

        Each prediction keeps its picture: to hold very many, save them first or `dataclasses.replace(prediction, image=None)`.
        """
        if isinstance(images, str | Path):
            raise InputError(f"predict_many takes several photos; predict({str(images)!r}) takes one")
        waiting: deque[NDArray[np.uint8]] = deque()

        def read() -> Iterator[NDArray[np.uint8]]:
            for image in images:
                waiting.append(self._pixels(image))
                yield waiting[-1]

        for prediction in self.predictor.predict_many(read()):
            yield replace(prediction, image=waiting.popleft())

    def predict_video(self, path: str | Path, config: VideoConfig | None = None) -> Iterator[Frame]:
        """Every frame of a video file with its people, tracked and smoothed, as it is decoded. Raises OSError."""
        from handface.model.prediction.video import VideoConfig, VideoPredictor
        from handface.pipeline.sources.video import VideoFrames

        with VideoFrames(str(path)) as frames:
            yield from VideoPredictor(self.predictor, config or VideoConfig()).predict(frames)

    def _pixels(self, image: str | Path | NDArray[np.uint8] | Image) -> NDArray[np.uint8]:
        from handface.model.prediction.crop import as_rgb

        if isinstance(image, str | Path):
            return self._reader(image)
        if isinstance(image, np.ndarray):
            try:
                return as_rgb(image)
            except ValueError as error:
                raise InputError(str(error)) from error
        from PIL import Image, ImageOps

        if not isinstance(image, Image.Image):
            raise InputError(f"a photo is a path, a URL, a Pillow image or a uint8 array, not {type(image).__name__}")
        if image.mode[0] in "IF":  # Pillow cuts them off at 255
            raise InputError(
                f"a Pillow image of mode {image.mode} has no 8-bit colours; give the path of its file instead"
            )
        try:
            upright = ImageOps.exif_transpose(image)
            return as_rgb(np.asarray(upright.convert("RGBA" if upright.has_transparency_data else "RGB"), np.uint8))
        except OSError as error:  # Pillow reads pixels only when they are asked for
            raise InputError(f"cannot decode: {error}") from error
