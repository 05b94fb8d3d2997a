"""Photos -> people: detect, crop, mirror left hands, run the network on many crops at once, map back into the photo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.fitting.config import FitConfig
from handface.model.fitting.people import FitPicture, PeopleFitter
from handface.model.fitting.quality import doubt_guess
from handface.model.network.config import DiceConfig
from handface.model.network.decode import PersonDecoder
from handface.model.network.deploy.inference import InferenceConfig, Runner, prepare
from handface.model.network.dice import Dice
from handface.model.network.mesh import Mesh
from handface.model.prediction.crop import Crop, as_rgb, crop_points, cut, person_box, whole_crop
from handface.model.prediction.prediction import Detection, Detector, NobodyFoundError, Person, Prediction


@dataclass(frozen=True)
class PredictorConfig:
    """How photos are cut and batched."""

    margin: float = 1.4
    """Side of the crop relative to the box around face and hand; the stored crops' own."""
    batch: int = 8
    """Crops the network gets at once, also across photos. Memory holds as many photos."""
    mesh: Mesh = "parametric"
    """parametric: bodies that the parameters pose; drawn: the network's own vertices, near which the parameters pose a body."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; at least 1")


@dataclass(frozen=True)
class _Look:
    """One photo before the network: its people and their crops, or why there are none."""

    width: int
    height: int
    detections: tuple[Detection, ...]
    crops: tuple[Crop, ...]
    reason: str


class Predictor:
    """Predicts hands and faces in photos.

    runner: network (see `model.network.deploy.inference.prepare`) of configuration `network`.  detector: finds the people.  trained: False for
    fresh weights; every result says so.  hand, head: body files, if not those the configuration names.
    fit: how bodies are fitted to the detected points; None gives the network's own answer, and so does a network never trained.
    Raises BodyFileError or TopologyError if the bodies are not the network's.
    """

    def __init__(
        self,
        runner: Runner,
        network: DiceConfig,
        detector: Detector,
        trained: bool,
        config: PredictorConfig = PredictorConfig(),
        hand: str | None = None,
        head: str | None = None,
        fit: FitConfig | None = None,
        device: str = "cpu",
    ) -> None:
        self.runner, self.detector, self.trained, self.config = runner, detector, trained, config
        self.size, self.looks_at_points = network.input.size, network.points is not None
        self.decoder = PersonDecoder(network, hand, head, config.mesh)
        self.fitter: PeopleFitter | None = None
        if fit is not None and trained:
            self.fitter = PeopleFitter(self.decoder.hand, self.decoder.head, fit, device)

    @classmethod
    def from_dice(
        cls,
        model: Dice,
        detector: Detector,
        trained: bool,
        inference: InferenceConfig = InferenceConfig(),
        config: PredictorConfig = PredictorConfig(),
        hand: str | None = None,
        head: str | None = None,
        fit: FitConfig | None = None,
    ) -> Predictor:
        """A predictor around a network in eval mode, on the network's device."""
        device = str(next(model.parameters()).device)
        return cls(prepare(model, inference), model.config, detector, trained, config, hand, head, fit, device)

    def predict(self, image: NDArray[np.uint8]) -> Prediction:
        """(H, W, 3) RGB uint8, or grey, or with alpha -> all people in it. Raises ValueError for other arrays."""
        return next(self.predict_many([image]))

    def predict_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[Prediction]:
        """One prediction per photo, in order; reads at most `config.batch` photos ahead."""
        pending: list[_Look] = []
        for image in images:
            pending.append(self._look(as_rgb(image)))
            if len(pending) >= self.config.batch or sum(len(look.crops) for look in pending) >= self.config.batch:
                yield from self._finish(pending)
                pending = []
        yield from self._finish(pending)

    def predict_crop(self, crop: NDArray[np.uint8], side: str = "right") -> Person:
        """A picture that is one person's crop already; results are in its pixels. Networks that look at points get those found in it."""
        if side not in ("left", "right"):
            raise ValueError(f"side is {side!r}, not 'left' or 'right'")
        image = as_rgb(crop)
        found = self.detect(image)[0] if self.looks_at_points else []
        detection = next((one for one in found if one.side == side), None)
        return self.run([whole_crop(image, "left" if side == "left" else "right", self.size)], [detection], [1.0])[0]

    def detect(self, image: NDArray[np.uint8]) -> tuple[list[Detection], str]:
        """(H, W, 3) RGB uint8 -> people, and why there are none."""
        try:
            found = self.detector(image)
        except NobodyFoundError as nobody:
            return [], str(nobody)
        return found, "" if found else "no hand near a face"

    def run(
        self, crops: Sequence[Crop], detections: Sequence[Detection | None], confidences: Sequence[float]
    ) -> list[Person]:
        """The network on any number of crops, `config.batch` at a time."""
        persons: list[Person] = []
        for start in range(0, len(crops), self.config.batch):
            some = slice(start, start + self.config.batch)
            pixels = np.stack([crop.pixels for crop in crops[some]]).transpose(0, 3, 1, 2)  # (B, 3, S, S)
            given = [torch.from_numpy(np.ascontiguousarray(pixels))]
            if self.looks_at_points:
                points = [crop_points(crop, one) for crop, one in zip(crops[some], detections[some], strict=True)]
                given.append(torch.from_numpy(np.stack(points)))
            output = self.runner(*given)
            persons += self.decoder.decode(output, crops[some], detections[some], confidences[some])
        return persons

    def _look(self, image: NDArray[np.uint8]) -> _Look:
        height, width = image.shape[:2]
        found, reason = self.detect(image)
        boxes = [person_box(detection, self.config.margin, width, height) for detection in found]
        crops = [cut(image, box, one.side, self.size) for box, one in zip(boxes, found, strict=True)]
        return _Look(width, height, tuple(found), tuple(crops), reason)

    def _finish(self, looks: Sequence[_Look]) -> Iterator[Prediction]:
        crops = [crop for look in looks for crop in look.crops]
        detections = [detection for look in looks for detection in look.detections]
        people = self.run(crops, detections, [detection.confidence for detection in detections])
        if self.fitter is not None:
            pictures = [FitPicture(look.width, look.height) for look in looks for _ in look.crops]
            fitted = self.fitter.fit(people, pictures)
            people = [doubt_guess(*pair) for pair in zip(fitted, people, strict=True)]
        persons = iter(people)
        for look in looks:
            mine = tuple(next(persons) for _ in look.crops)
            yield Prediction(mine, look.width, look.height, self.trained, look.reason)
