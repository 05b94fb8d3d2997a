"""What `Predictor` finds in a picture: one `Person` per hand-and-face, in the picture's own pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.names import FACE_KEYPOINTS, HAND_KEYPOINTS, JAW_KEYPOINTS, KEYPOINTS

if TYPE_CHECKING:
    from PIL.Image import Image

Floats = NDArray[np.float32]
CONTACT_PROBABILITY = 0.5  # probability from which a vertex counts as touching


@dataclass(frozen=True)
class PointDepth:
    """Depth at a person's 68 + 21 points, as a depth network or camera sees it. values: (89, 2) value and validity, 0 or 1.

    A value is affine in the distance along the view, with a scale and shift of its own; inverse: in one over it, so that larger is nearer.
    """

    values: Floats
    inverse: bool = False

    def __post_init__(self) -> None:
        _require_numbers("depth", self.values, (KEYPOINTS, 2))


@dataclass(frozen=True)
class Detection:
    """One person as a detector sees them, pixels of the picture, centres at integers.

    face: (68, 3) and hand: (21, 3) x, y, confidence.  side: the person's own hand.  confidence: in [0, 1].
    face_box: x0, y0, x1, y1 from hairline to chin, which decides the crop; None: that of the 68 points.
    hand_world: (21, 3) the hand's points in metres about any origin, camera axes, as if seen in the middle of a view; or None.
    depth: at the points, or None.
    Raises ValueError for arrays of another shape or kind and for another side.
    """

    face: Floats
    hand: Floats
    side: Literal["left", "right"]
    confidence: float
    face_box: tuple[float, float, float, float] | None = None
    hand_world: Floats | None = None
    depth: PointDepth | None = None

    def __post_init__(self) -> None:
        _require_numbers("face", self.face, (FACE_KEYPOINTS, 3))
        _require_numbers("hand", self.hand, (HAND_KEYPOINTS, 3))
        if self.hand_world is not None:
            _require_numbers("hand_world", self.hand_world, (HAND_KEYPOINTS, 3))
        if self.side not in ("left", "right"):
            raise ValueError(f"side is {self.side!r}: 'left' or 'right' is expected")

    @property
    def face_size(self) -> float:
        """Longer side of the box around the face points that were seen, pixels; 0 if there are none.

        At most twice that of the points beside the jaw line, which a wild point on that line would enlarge at will.
        """
        seen = (self.face[:, 2] > 0) & np.isfinite(self.face).all(1)
        sizes = [
            float(np.ptp(points, axis=0).max())
            for points in (self.face[seen, :2], self.face[JAW_KEYPOINTS:][seen[JAW_KEYPOINTS:], :2])
            if len(points)
        ]
        return min(sizes[0], 2 * sizes[1]) if len(sizes) == 2 else sum(sizes)


def _require_numbers(name: str, values: Floats, shape: tuple[int, int]) -> None:
    if getattr(values, "shape", None) != shape:
        found = getattr(values, "shape", type(values).__name__)
        raise ValueError(f"{name} is {found}: an array of shape {shape} is expected")
    if np.asarray(values).dtype.kind not in "fiu":
        raise ValueError(f"{name} is an array of {np.asarray(values).dtype}: one of real numbers is expected")


class NobodyFoundError(Exception):
    """What a `Detector` may raise instead of returning an empty list: why there is nobody, for people."""


class Detector(Protocol):
    """Finds people with a hand near their face; `handface/` and `jobs/` give the pipeline's annotators in this shape."""

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        """RGB (H, W, 3) uint8 -> people, most confident first; empty or NobodyFoundError if there is none."""
        ...


@dataclass(frozen=True)
class WeakCamera:
    """u = s X + tx, v = s Y + ty: metres in camera axes -> pixels of the picture."""

    scale: float
    tx: float
    ty: float

    def project(self, points: Floats) -> Floats:
        """(..., 3) metres -> (..., 2) pixels."""
        return (self.scale * points[..., :2] + np.array([self.tx, self.ty])).astype(np.float32)

    def placed(self, scale: float, x: float, y: float) -> WeakCamera:
        """The camera that sees the origin at pixel (x, y) and `scale` pixels per metre there."""
        return WeakCamera(scale, x, y)


@dataclass(frozen=True)
class PinholeCamera:
    """u = focal (X + x) / (Z + z) + cx, v = focal (Y + y) / (Z + z) + cy: metres in camera axes -> pixels of the picture.

    transl: (x, y, z) metres, where the origin of the points lies.
    """

    focal: float
    cx: float
    cy: float
    transl: tuple[float, float, float]

    @property
    def scale(self) -> float:
        """Pixels per metre at the points' origin."""
        return self.focal / self.transl[2]

    def project(self, points: Floats) -> Floats:
        """(..., 3) metres -> (..., 2) pixels."""
        seen = np.asarray(points, np.float64) + self.transl
        return (self.focal * seen[..., :2] / seen[..., 2:] + [self.cx, self.cy]).astype(np.float32)

    def placed(self, scale: float, x: float, y: float) -> PinholeCamera:
        """The camera that sees the origin at pixel (x, y) and `scale` pixels per metre there."""
        return PinholeCamera(
            self.focal, self.cx, self.cy, ((x - self.cx) / scale, (y - self.cy) / scale, self.focal / scale)
        )


@dataclass(frozen=True)
class Fit:
    """What came of fitting a person's bodies to the detected points.

    fitted: False where the network's own answer was kept.  quality: in [0, 1], how far to trust meshes and parameters.
    reason: why the quality is low, or why nothing was fitted; "" if all is well.
    residuals: (89,) distance of each projected keypoint from the detected one, in shares of the face's longer side; NaN: unseen.
    depth: depth at the points said how far the hand lies; False where there was none, or where it did not follow the face's shape.
    """

    fitted: bool
    quality: float
    reason: str
    residuals: Floats
    depth: bool = False


@dataclass(frozen=True)
class Part:
    """A hand or a head, metres in camera axes (x right, y down, z forward), the mean head vertex at the origin.

    vertices: (V, 3), the head's already deformed.  faces: (F, 3) int64, outside counter-clockwise.  keypoints_3d: (K, 3).
    contact: (V,) probability.  deformation: (V, 3) that was subtracted, zeros for a hand.
    parameters: betas, expression, pose, global_orient, transl of `body` in `convention`; a left hand's are those of the left body.
        Posed with them the body, plus `offset`, less `deformation`, lies where `vertices` lie (to 1e-4 m). A head that belongs to a
        left hand was seen in the mirror; where its body has no mirror signs, betas and expression are left out, and `faces` are turned over.
    offset: (V, 3), what the network's own mesh (`mesh="drawn"`) has more than the posed body; None of the posed body itself.
    """

    vertices: Floats
    faces: NDArray[np.int64]
    keypoints_3d: Floats
    contact: Floats
    deformation: Floats
    parameters: dict[str, Floats]
    body: str
    convention: str
    offset: Floats | None = None


@dataclass(frozen=True)
class Person:
    """One hand at one face.

    crop: (3, 3) affine, network input pixels -> picture pixels, before a left hand's crop is mirrored.
    presence: probability that they touch.  detection: None if the caller gave the crop, or a video's frame hid the person.
    track: the person's number in a video.  fit: None where no fit was asked for.
    """

    hand: Part
    head: Part
    side: Literal["left", "right"]
    camera: WeakCamera | PinholeCamera
    presence: float
    confidence: float
    crop: NDArray[np.float64]
    detection: Detection | None = None
    track: int | None = None
    fit: Fit | None = None

    @property
    def quality(self) -> float | None:
        """In [0, 1], how far to trust meshes and parameters; None where no fit was asked for."""
        return None if self.fit is None else self.fit.quality

    def __repr__(self) -> str:
        quality = "none" if self.quality is None else f"{self.quality:.2f}"
        touched = ", ".join(
            f"{int((part.contact > CONTACT_PROBABILITY).sum())} of {len(part.contact)} {name}"
            for name, part in (("hand", self.hand), ("head", self.head))
        )
        return f"Person({self.side} hand, presence={self.presence:.2f}, quality={quality}, contact={touched} vertices)"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the meshes as plain JSON values; `docs/predictions.md` has every field."""
        from handface.model.outputs.records import person_to_json

        return person_to_json(self)


@dataclass(frozen=True)
class Prediction:
    """Every hand at a face of one picture, as a `Person` each: someone with both hands at the face is there twice.

    trained: whether the network's weights were ever trained; if not, the meshes mean nothing.  reason: why there is nobody.
    image: (H, W, 3) uint8 RGB, the picture itself where it was kept, as `HandFace.predict` does; `plot` and `save` draw over it.
    """

    persons: tuple[Person, ...]
    width: int
    height: int
    trained: bool
    reason: str = ""
    image: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    @property
    def faces(self) -> list[int]:
        """For each of `persons` the number of its face, from 0: the two hands of one face share it."""
        numbers: dict[object, int] = {}
        seen = (
            one.detection.face.tobytes() if one.detection is not None else index
            for index, one in enumerate(self.persons)
        )
        return [numbers.setdefault(face, len(numbers)) for face in seen]

    def __repr__(self) -> str:
        people = ", ".join(map(repr, self.persons)) or f"nobody: {self.reason}"
        untrained = "" if self.trained else ", UNTRAINED"
        return f"Prediction({self.width}x{self.height}{untrained}, {people})"

    def to_dict(self, name: str = "") -> dict[str, Any]:
        """Everything but picture and meshes as plain JSON values. name: what `photo` says."""
        from handface.model.outputs.records import to_json

        return to_json(name, self)

    def plot(self) -> Image:
        """The overlay beside every person's contact map, as a Pillow image.

        Raises:
            ValueError: the prediction holds no picture.
        """
        from handface.model.outputs.plot import plot_prediction

        return plot_prediction(self)

    def save(self, folder: str | Path, name: str = "prediction") -> list[Path]:
        """Write NAME.json, NAME.npz, a glb, parameters and a contact map per person, COCO keypoints, and the overlay.

        Args:
            folder: made if it is not there; files of the same name are overwritten.
            name: what the files are called, without a suffix.

        Returns:
            The files written. Without a picture there is no overlay.

        Raises:
            ValueError: `name` is no plain file name.
        """
        from handface.model.outputs.save import save_prediction

        return save_prediction(self, Path(folder), name)
