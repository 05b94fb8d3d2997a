"""An optional filter for pornography: Yahoo's OpenNSFW on the whole photo, before any face is looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators.onnx_session import open_session
from handface.pipeline.contract.config import Share
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.model_store import ModelStore
from handface.pipeline.engine.libraries import PIXELS
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = "open-nsfw"
_MEAN_BGR = np.array([104.0, 117.0, 123.0], np.float32)


@dataclass(frozen=True)
class NsfwConfig:
    """Off by default: crawls of the open web should switch it on."""

    threshold: Share | None = None
    """Photos scored above this are turned away; 0.8 is what the network's authors call not safe."""


class NsfwStage(Stage):
    """Rejects as `nsfw`. Needs the model open-nsfw of the model store when a threshold is set."""

    name = "nsfw"
    reads = ("image",)
    writes = ("annotators",)

    def __init__(self, config: NsfwConfig = NsfwConfig()) -> None:
        self.config = config
        self.libraries = PIXELS if config.threshold is None else (*PIXELS, "onnxruntime")

    @property
    def off(self) -> bool:
        """Whether no threshold was given."""
        return self.config.threshold is None

    def setup(self) -> None:
        """Load the network, one thread."""
        if self.config.threshold is None:
            return
        self._session = open_session(ModelStore().path(MODEL))
        self._record = ModelStore().record(MODEL, {"nsfw": self.config.threshold})

    def __call__(self, batch: Sequence[Record]) -> None:
        """Score each photo."""
        if self.config.threshold is None:
            return
        for record in batch:
            assert record.image is not None
            score = self.score(record.image)
            record.annotators.append(self._record)
            if score > self.config.threshold:
                record.reject(Reason.NSFW, f"score {score:.2f}")

    def score(self, image: NDArray[np.uint8]) -> float:
        """(H, W, 3) uint8 RGB -> probability in [0, 1]. Input as in the Caffe original: 256 px, centre 224, BGR - mean."""
        import cv2

        small = cv2.resize(image, (256, 256), interpolation=cv2.INTER_LINEAR)[16:240, 16:240, ::-1]
        pixels = (small.astype(np.float32) - _MEAN_BGR)[None]
        node = self._session.get_inputs()[0]
        if node.shape[1] == 3:
            pixels = pixels.transpose(0, 3, 1, 2)
        (scores,) = self._session.run(None, {node.name: np.ascontiguousarray(pixels)})
        return float(np.ravel(scores)[1])
