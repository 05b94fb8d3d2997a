"""Video: one crop per person that moves smoothly, the network on several frames at once, smooth results; constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from handface.model.fitting.people import FitPicture
from handface.model.fitting.quality import doubt_guess
from handface.model.prediction.crop import Crop, as_rgb, cut, person_box
from handface.model.prediction.posing import PartPoser
from handface.model.prediction.prediction import Detection, Part, Person, PinholeCamera, Prediction
from handface.model.prediction.predictor import Predictor
from handface.model.prediction.smoothing import OneEuro, OneEuroConfig, OneEuroRotations
from handface.model.prediction.tracking import Tracker
from handface.model.prediction.view import Box

_HAND_LENGTH = 0.18  # metres: the step of a vertex that counts as 1
# of thumbnails from 0 to 1: mean change and correlation that make a cut; a frame without a pattern, as in a fade, is none
_CUT_CHANGE, _CUT_LIKENESS, _CUT_CONTRAST = 0.06, 0.5, 0.02


@dataclass(frozen=True)
class VideoConfig:
    """How people are followed and how calm the result is."""

    smooth: OneEuroConfig = field(default_factory=OneEuroConfig)
    """Filter of meshes, parameters and camera."""
    smooth_crop: OneEuroConfig = field(default_factory=lambda: OneEuroConfig(min_cutoff=1.0, beta=2.0))
    """Filter of the crop's centre and side, relative to the side."""
    patience: float = 0.5
    """Seconds for which a person whom the detector loses is still predicted, where they were last seen."""


@dataclass(frozen=True)
class Frame:
    """One frame of the answer. time: seconds.  image: (H, W, 3) uint8 RGB.  Persons carry their track's number."""

    time: float
    image: NDArray[np.uint8]
    prediction: Prediction


@dataclass(frozen=True)
class _Sight:
    """One person in one frame before the network. number: of their track.  confidence: of the detection, of a hidden person the last one."""

    number: int
    crop: Crop
    detection: Detection | None
    confidence: float


@dataclass(frozen=True)
class _Waiting:
    time: float
    image: NDArray[np.uint8]
    sights: tuple[_Sight, ...]
    reason: str


class VideoPredictor:
    """Predicts one video; a new one for each video, since it remembers who was where."""

    def __init__(self, predictor: Predictor, config: VideoConfig = VideoConfig()) -> None:
        self.predictor, self.config = predictor, config
        self._tracker = Tracker(config.patience)
        self._thumbnail: NDArray[np.float32] | None = None  # of the frame before
        self._boxes: dict[int, BoxFilter] = {}
        self._persons: dict[int, PersonFilter] = {}
        self._before: dict[int, Person] = {}
        self._focals: dict[int, float] = {}  # of each track's camera, as first assumed
        decoder = predictor.decoder
        self._posers = {"hand": PartPoser(decoder.hand), "head": PartPoser(decoder.head)}

    def predict(self, frames: Iterable[tuple[float, NDArray[np.uint8]]]) -> Iterator[Frame]:
        """(seconds, (H, W, 3) RGB uint8) in order of time -> the same frames with their people.

        Holds at most the predictor's batch of frames. Raises ValueError if time does not increase.
        """
        waiting: list[_Waiting] = []
        for time, image in frames:
            waiting.append(self._look(time, as_rgb(image)))
            if len(waiting) >= self.predictor.config.batch:
                yield from self._finish(waiting)
                waiting = []
        yield from self._finish(waiting)

    def _look(self, time: float, image: NDArray[np.uint8]) -> _Waiting:
        height, width = image.shape[:2]
        small = thumbnail(image)
        if self._thumbnail is not None and is_cut(self._thumbnail, small):
            self._tracker.forget()
        self._thumbnail = small
        found, reason = self.predictor.detect(image)
        sights = []
        for track, detection in self._tracker.update(found, time):
            box = person_box(track.detection, self.predictor.config.margin, width, height)
            box = self._boxes.setdefault(track.number, BoxFilter(self.config.smooth_crop))(box, time)
            crop = cut(image, box, track.side, self.predictor.size)
            sights.append(_Sight(track.number, crop, detection, track.detection.confidence))
        self._boxes = {sight.number: self._boxes[sight.number] for sight in sights}
        return _Waiting(time, image, tuple(sights), "" if sights else reason)

    def _finish(self, waiting: list[_Waiting]) -> Iterator[Frame]:
        sights = [sight for frame in waiting for sight in frame.sights]
        confidences = [sight.confidence for sight in sights]
        persons = iter(
            self.predictor.run([sight.crop for sight in sights], [sight.detection for sight in sights], confidences)
        )
        for frame in waiting:
            seen = self._fit(frame, [next(persons) for _ in frame.sights])
            smooth = tuple(
                self._smooth(sight.number, person, frame.time) for sight, person in zip(frame.sights, seen, strict=True)
            )
            self._persons = {person.track: self._persons[person.track] for person in smooth if person.track is not None}
            height, width = frame.image.shape[:2]
            prediction = Prediction(smooth, width, height, self.predictor.trained, frame.reason)
            yield Frame(frame.time, frame.image, prediction)

    def _fit(self, frame: _Waiting, persons: list[Person]) -> list[Person]:
        """People of one frame, fitted from where they were in the frame before; who is hidden stays as they were."""
        if self.predictor.fitter is None:
            return persons
        before = [self._before.get(sight.number) for sight in frame.sights]
        height, width = frame.image.shape[:2]
        pictures = [FitPicture(width, height, self._focals.get(sight.number)) for sight in frame.sights]
        fitted = self.predictor.fitter.fit(persons, pictures, before)
        fitted = [doubt_guess(*pair) for pair in zip(fitted, persons, strict=True)]
        for k, (sight, person, last) in enumerate(zip(frame.sights, fitted, before, strict=True)):
            if sight.detection is None and last is not None and last.side == person.side:
                fitted[k] = replace(last, detection=None, crop=person.crop)
        self._before = {sight.number: person for sight, person in zip(frame.sights, fitted, strict=True)}
        for number, person in self._before.items():
            if isinstance(person.camera, PinholeCamera):
                self._focals.setdefault(number, person.camera.focal)
        return fitted

    def _smooth(self, number: int, person: Person, time: float) -> Person:
        current = self._persons.get(number)
        if current is None or current.side != person.side:
            current = self._persons[number] = PersonFilter(person.side, self.config.smooth)
        smooth = replace(current(person, time), track=number)
        if self.predictor.config.mesh != "parametric" and not (person.fit and person.fit.fitted):
            return smooth  # the network's own mesh, which its parameters only come near to
        hand, head = (self._posers[name](getattr(smooth, name), smooth.side) for name in ("hand", "head"))
        return replace(smooth, hand=hand, head=head)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 -> (36, 64) brightness, 0 to 1."""
    import cv2

    small = cv2.resize(image, (64, 36), interpolation=cv2.INTER_AREA)
    return np.asarray(small.astype(np.float32).mean(2) / 255, np.float32)


def is_cut(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Whether a film goes on with another scene: brightness has changed much, and in another pattern. Thumbnails of two frames."""
    if np.abs(after - before).mean() < _CUT_CHANGE or min(before.std(), after.std()) < _CUT_CONTRAST:
        return False
    likeness = ((before - before.mean()) * (after - after.mean())).mean() / (before.std() * after.std())
    return bool(likeness < _CUT_LIKENESS)


class BoxFilter:
    """Smooths a square's centre and side, measured in its first side."""

    def __init__(self, config: OneEuroConfig) -> None:
        self._config = config
        self._filter: OneEuro | None = None

    def __call__(self, box: Box, time: float) -> Box:
        """x0, y0, x1, y1 at `time` (seconds) -> smoothed."""
        side = box[2] - box[0]
        if self._filter is None:
            self._filter = OneEuro(self._config, unit=side)
        x, y, side = self._filter(np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, side]), time).tolist()
        return x - side / 2, y - side / 2, x + side / 2, y + side / 2


class PersonFilter:
    """Smooths one person's meshes, contact, parameters and camera. Rotations are smoothed as rotations."""

    def __init__(self, side: str, config: OneEuroConfig) -> None:
        self.side = side
        self._config = config
        self._filters: dict[str, OneEuro | OneEuroRotations] = {}

    def __call__(self, person: Person, time: float) -> Person:
        """The person at `time` (seconds) -> smoothed."""
        camera = person.camera
        zoom, corner = float(person.crop[0, 0]), person.crop[:2, 2]  # of the crop, which moves with the person
        log_scale = self._filter("log scale", np.log([max(camera.scale, 1e-9) * zoom]), time)
        inside = (camera.project(np.zeros(3, np.float32)) - corner) / zoom
        x, y = (corner + zoom * self._filter("place", inside, time, unit=100)).tolist()
        presence = self._filter("presence", np.array([person.presence]), time)
        return replace(
            person,
            hand=self._part("hand", person.hand, time),
            head=self._part("head", person.head, time),
            camera=camera.placed(float(np.exp(log_scale[0])) / zoom, x, y),
            presence=float(presence[0]),
        )

    def _part(self, name: str, part: Part, time: float) -> Part:
        def points(field: str) -> NDArray[np.float32]:
            return self._filter(f"{name} {field}", getattr(part, field), time, unit=_HAND_LENGTH)

        return replace(
            part,
            vertices=points("vertices"),
            keypoints_3d=points("keypoints_3d"),
            deformation=points("deformation"),
            offset=None if part.offset is None else points("offset"),
            contact=self._filter(f"{name} contact", part.contact, time),
            parameters={
                key: self._filter(f"{name} {key}", value, time, rotations=key in ("pose", "global_orient"))
                for key, value in part.parameters.items()
            },
        )

    def _filter(
        self, name: str, value: NDArray[np.floating], time: float, unit: float = 1.0, rotations: bool = False
    ) -> NDArray[np.float32]:
        if name not in self._filters:
            self._filters[name] = OneEuroRotations(self._config) if rotations else OneEuro(self._config, unit)
        return self._filters[name](value, time).astype(np.float32)
