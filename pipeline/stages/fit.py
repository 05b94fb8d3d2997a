"""Fits bodies to the sample's keypoints and writes them as FITTED 3D labels, with their quality. Off unless a network is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.pipeline.contract.config import Share
from handface.pipeline.contract.sample import RIGHT, AnnotatorRecord, Labels, Sample
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handface.model.prediction.prediction import Detection, Part, Person, PointDepth
    from handface.model.prediction.predictor import Predictor

VERSION = "7"  # 7: each person's contact is parted where the expected F1 is best
_LICENCE = "Apache-2.0"  # of the networks that come with the package
_RESOLVES_HANDS = ("affine-inverse", "metric")  # the others are relative within a part, or FastDepth's
_MOVES = 1e-5  # metres from which a displacement is stored


@dataclass(frozen=True)
class FitStageConfig:
    """Which network guesses what the points leave open, and which fits are kept."""

    model: str | None = None
    """A preset (dice-m and dice-nano come with weights) or a checkpoint folder; none: nothing is fitted."""
    hand_model: str | None = None
    """Hand body (.npz), if not the one the checkpoint names."""
    head_model: str | None = None
    """Head body (.npz), if not the one the checkpoint names."""
    licence: str = "unknown"
    """Of a checkpoint of your own, kept with every sample; refused beside a preset, whose licence is known."""
    min_quality: Share = 0.3
    """Fits of less quality write no labels."""
    weights_digest: str = ""
    """Checksum of network and bodies; filled in when a run starts, so that one run never uses two versions of them."""
    depth: bool = True
    """Whether depth of Depth Anything's kinds (affine-inverse, metric) says how far the hand lies away; --fit.no-depth leaves it out."""


def settled(config: FitStageConfig) -> FitStageConfig:
    """The config with local paths absolute, as workers sit in other folders, and the checksum of what they will load."""
    if config.model is None:
        return config
    from handface.model.bodies.load import FREE
    from handface.model.weights.checkpoint import TENSORS, read_config
    from handface.model.weights.named import EMBEDDED, require_checkpoint
    from handface.pipeline.contract.checkpoints import local_weights
    from handface.pipeline.contract.model_store import files_sha256
    from handface.pipeline.contract.storage import absolute

    with local_weights(config.model) as local:
        folder = require_checkpoint(local)
        sizes = read_config(folder).sizes
        bodies = config.hand_model or sizes.hand.body, config.head_model or sizes.head.body
        digest = files_sha256([folder / TENSORS, *(Path(body) for body in bodies if body not in FREE)])
    paths: dict[str, str | None] = {name: getattr(config, name) for name in ("hand_model", "head_model")}
    if folder.parent != EMBEDDED:
        paths["model"] = config.model
    given: dict[str, Any] = {
        name: absolute(path) for name, path in paths.items() if path is not None and path not in FREE
    }
    return replace(config, weights_digest=digest, **given)


class FitStage(Stage):
    """Adds fitted 3D labels to record.sample. Comes after `pack`: it sees the crop as it is stored."""

    name = "fit"
    reads = ("sample",)
    writes = ("sample",)

    def __init__(self, config: FitStageConfig = FitStageConfig()) -> None:
        self.config = config
        self._predictor: Predictor | None = None

    def setup(self) -> None:
        """Load the network. Raises WeightsError, TopologyError or BodyFileError for wrong files, ValueError for an untrained one."""
        if self.config.model is None:
            return
        from handface.model.fitting.config import FitConfig
        from handface.model.prediction.predictor import Predictor
        from handface.model.weights.checkpoint import TENSORS
        from handface.model.weights.named import EMBEDDED, load_network
        from handface.pipeline.contract.checkpoints import local_weights
        from handface.pipeline.contract.model_store import file_sha256

        names = self.config.hand_model, self.config.head_model
        with local_weights(self.config.model) as local:
            loaded = load_network(local, *names)
            if not loaded.trained:
                raise ValueError(f"fit.model {self.config.model} is untrained: its guesses mean nothing")
            folder = Path(loaded.source)
            checksum = file_sha256(folder / TENSORS)
        self._predictor = Predictor.from_dice(
            loaded.network, _nobody, True, hand=names[0], head=names[1], fit=FitConfig()
        )
        sizes = loaded.network.config.sizes
        self._bodies = (names[0] or sizes.hand.body, names[1] or sizes.head.body)
        licence = self.config.licence
        if folder.parent == EMBEDDED:
            if licence not in (FitStageConfig.licence, _LICENCE):
                raise ValueError(f"fit.licence {licence}: {self.config.model} comes with handface under {_LICENCE}")
            licence = _LICENCE
        self._record = AnnotatorRecord(
            f"fit-{Path(self.config.model).name}",
            "fit",
            VERSION,
            checksum,
            licence,
            {"quality": self.config.min_quality},
        )

    def __call__(self, batch: Sequence[Record]) -> None:
        """Fit each sample by itself, so that its labels do not depend on its neighbours."""
        if self._predictor is None:
            return
        for record in batch:
            assert record.sample is not None
            sample, world = record.sample, record.person_hands[0].world
            depth = point_depth(sample.labels) if self.config.depth else None
            person = fit_sample(self._predictor, sample, world, depth)
            annotators = (*sample.meta.annotators, self._record)
            sample = replace(sample, meta=replace(sample.meta, annotators=annotators))
            if person.fit is not None and person.fit.fitted and person.fit.quality >= self.config.min_quality:
                sample = replace(sample, labels=fitted_labels(sample.labels, person, *self._bodies))
            record.sample = sample


def fit_sample(
    predictor: Predictor, sample: Sample, world: NDArray[np.float32] | None = None, depth: PointDepth | None = None
) -> Person:
    """The fitted person of a sample's crop, in crop pixels.

    world: (21, 3) hand landmarks in metres, camera axes, where a detector gave them.  depth: at the 89 points, where it is known.
    Raises ValueError without 2D keypoints.
    """
    import simplejpeg

    from handface.model.fitting.people import FitPicture, assume_focal
    from handface.model.prediction.crop import whole_crop

    assert predictor.fitter is not None
    labels, crop = sample.labels, sample.meta.crop
    detection = replace(sample_detection(labels, world), depth=depth)
    pixels = simplejpeg.decode_jpeg(sample.image, "RGB")
    view = whole_crop(np.asarray(pixels, np.uint8), detection.side, predictor.size)
    (person,) = predictor.run([view], [detection], [detection.confidence])
    affine = np.array(crop.affine)
    to_crop = np.linalg.inv(affine)
    middle = to_crop @ [(crop.original_width - 1) / 2, (crop.original_height - 1) / 2, 1]
    longer = float(max(crop.original_width, crop.original_height) * to_crop[0, 0])
    centre = (float(middle[0]), float(middle[1]))
    if labels.camera_intrinsics is not None:
        k = labels.camera_intrinsics
        focal, centre = float(k[0, 0]), (float(k[0, 2]), float(k[1, 2]))
    else:
        focal = assume_focal(detection, longer, predictor.fitter.config)
    picture = FitPicture(crop.size, crop.size, focal, centre)
    return predictor.fitter.fit([person], [picture])[0]


def point_depth(labels: Labels) -> PointDepth | None:
    """A sample's depth that tells a hand from the face behind it: the first source by name of a kind that does."""
    from handface.model.prediction.prediction import PointDepth

    for _, depth in sorted(labels.keypoint_depth.items()):
        if depth.kind in _RESOLVES_HANDS:
            return PointDepth(depth.values, inverse=depth.kind == "affine-inverse")
    return None


def sample_detection(labels: Labels, world: NDArray[np.float32] | None = None) -> Detection:
    """Face and hand 0 of a sample as a detection in crop pixels. Raises ValueError if either is missing."""
    from handface.model.prediction.prediction import Detection

    face, hands, sides = labels.face_keypoints_2d, labels.hand_keypoints_2d, labels.hand_side
    if face is None or hands is None or sides is None or not len(hands):
        raise ValueError("a fit needs keypoints of a face and of a hand")
    confidence = float(min(face[:, 2].mean(), hands[0][:, 2].mean()))
    side = "right" if sides[0] == RIGHT else "left"
    return Detection(np.array(face), np.array(hands[0]), side, confidence, None, world)  # type: ignore[arg-type]


def fitted_labels(labels: Labels, person: Person, hand_model: str, head_model: str) -> Labels:
    """The sample's labels with the 3D of a person fitted in crop pixels. A left hand's are of the left body."""
    from handface.model.prediction.prediction import PinholeCamera

    camera = person.camera
    assert person.fit is not None and isinstance(camera, PinholeCamera)
    place = np.array(camera.transl, np.float32)
    hand, head = person.hand.parameters, person.head.parameters
    displacement = _to_head_axes(-person.head.deformation, head["global_orient"])
    rows = np.flatnonzero(np.linalg.norm(displacement, axis=1) > _MOVES)
    intrinsics = np.array([[camera.focal, 0, camera.cx], [0, camera.focal, camera.cy], [0, 0, 1]], np.float32)
    return replace(
        labels,
        camera_intrinsics=intrinsics,
        hand_betas=_row(hand["betas"]),
        hand_pose=_row(hand["pose"]).reshape(-1, 3),
        hand_global_orient=_row(hand["global_orient"]),
        hand_transl=_row(hand["transl"] + place),
        hand_keypoints_3d=_row(person.hand.keypoints_3d + place),
        hand_contact=_bits(person.hand),
        head_betas=_row(head["betas"]) if "betas" in head else None,
        head_expression=_row(head["expression"]) if "expression" in head else None,
        head_pose=_row(head["pose"]).reshape(-1, 3),
        head_global_orient=_row(head["global_orient"]),
        head_transl=_row(head["transl"] + place),
        head_keypoints_3d=_row(person.head.keypoints_3d + place),
        head_contact=_bits(person.head),
        head_deformation_rows=rows.astype(np.int32),
        head_deformation=displacement[rows].astype(np.float16),
        hand_model=_name(hand_model),
        head_model=_name(head_model),
        origin_3d="fitted",
        fit_quality=round(person.fit.quality, 4),
    )


def _to_head_axes(vectors: NDArray[np.float32], orient: NDArray[np.float32]) -> NDArray[np.float64]:
    """Vectors (V, 3) in camera axes -> in the axes of a head of this global_orient (3,)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(orient.astype(np.float64)).inv().apply(vectors))


def _row(value: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(value, np.float32)


def _bits(part: Part) -> NDArray[np.uint8]:
    from handface.model.prediction.prediction import CONTACT_PROBABILITY

    return np.packbits(part.contact > CONTACT_PROBABILITY)


def _name(body: str) -> str:
    """A body as labels call it: the free ones by name, files by their stem."""
    from pathlib import PurePath

    return body if body.startswith("free-") else PurePath(body).stem


def _nobody(image: NDArray[np.uint8]) -> list[Detection]:
    """The predictor's detector here, which is never asked: the keypoints are the sample's."""
    return []
