"""The detector over shards whose labels are the truth: what a network that looks at points will be given there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np

from handface.model.prediction.prediction import Detection, NobodyFoundError
from handface.pipeline.contract.sample import LEFT, Labels, SampleMeta
from handface.pipeline.contract.shards import iter_samples
from handface.predict.people import PeopleDetector

if TYPE_CHECKING:
    from numpy.typing import NDArray

# mean distance from the labels' points, in sizes of the labels' face; farther off it is somebody else
_SAME_HAND, _SAME_FACE = 0.5, 0.3
# names of the detector's points in a sample's provenance
_OWN = {"mediapipe-face-landmarks", "mediapipe-hand-landmarks"}


@dataclass(frozen=True)
class Found:
    """What the detector found in a shard.

    points: {key: (89, 3)} face and hand of the labelled person, pixels of the stored picture.  samples: how many were looked at.
    own: how many of them have the detector's own points for labels.
    """

    points: dict[str, NDArray[np.float32]]
    samples: int
    own: int = 0


def find_points(shards: Sequence[str], processes: int = 1) -> Iterator[Found]:
    """Look at every sample of each shard with 2D labels of a face and a hand; shards in order.

    Raises FileNotFoundError naming a missing shard, ShardError naming a damaged one.
    """
    processes = min(processes, len(shards))
    if processes < 2:
        yield from map(_look, shards)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(_look, shards)


def labelled_person(people: Sequence[Detection], labels: Labels) -> NDArray[np.float32] | None:
    """The detection of the person that the labels are of, (89, 3); None if none is, or if the hand is taken for the other one."""
    face, hands, sides = labels.face_keypoints_2d, labels.hand_keypoints_2d, labels.hand_side
    if face is None or hands is None or sides is None or not len(hands):
        return None
    side = "left" if sides[0] == LEFT else "right"
    known = face[face[:, 2] > 0, :2]
    if not len(known):
        return None
    away = partial(_away, size=float(np.ptp(known, axis=0).max()))
    near = [
        (away(one.hand, hands[0]), one)
        for one in people
        if one.side == side and away(one.hand, hands[0]) < _SAME_HAND and away(one.face, face) < _SAME_FACE
    ]
    if not near:
        return None
    best = min(near, key=lambda pair: pair[0])[1]
    return np.concatenate([best.face, best.hand]).astype(np.float32)


def is_own(meta: SampleMeta) -> bool:
    """Whether a sample's 2D labels are what the detector found, as `handface annotate` writes them by default."""
    return any(record.name in _OWN for record in meta.annotators)


def _away(found: NDArray[np.float32], true: NDArray[np.float32], size: float) -> float:
    """Mean distance of points that both know, in sizes of the face; infinite where there are none."""
    both = (found[:, 2] > 0) & (true[:, 2] > 0)
    if not both.any() or size <= 0:
        return float("inf")
    return float(np.linalg.norm(found[both, :2] - true[both, :2], axis=1).mean()) / size


@cache
def _detector() -> PeopleDetector:
    """One a process: opening its networks takes a second."""
    return PeopleDetector()


def _look(shard: str) -> Found:
    import simplejpeg

    detector, points, samples, own = _detector(), dict[str, "NDArray[np.float32]"](), 0, 0
    for sample in iter_samples(shard):
        samples += 1
        own += is_own(sample.meta)
        try:
            people = detector(np.asarray(simplejpeg.decode_jpeg(sample.image, "RGB"), np.uint8))
        except NobodyFoundError:
            continue
        if (found := labelled_person(people, sample.labels)) is not None:
            points[sample.key] = found
    return Found(points, samples, own)
