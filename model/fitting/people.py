"""People as the predictor returns them -> the same people fitted to their detected points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.bodies.body import BodyOutput, ParametricBody
from handface.model.bodies.convention import named_convention
from handface.model.bodies.names import FACE_KEYPOINTS, HAND_KEYPOINTS, IBUG_MIRROR, KEYPOINTS
from handface.model.fitting.config import TOUCHES, FitConfig, Guess, Observations, Solution
from handface.model.fitting.fit import BodyFitter, pose
from handface.model.fitting.keypoint_body import FitParameters
from handface.model.fitting.presence import touch_probability
from handface.model.fitting.quality import judge, refuse
from handface.model.fitting.touch import Touching, settle
from handface.model.network.decode import NamedBody, mirrored_hand, mirrored_head
from handface.model.prediction.prediction import Detection, Fit, Floats, Part, Person, PinholeCamera

_AWAY = (0.7, -0.10)  # of a hand that does not touch: its distance as the network says it, times and plus (metres)
_FACE_LENGTH = 0.14  # metres: longer side of the box around the 68 points of a usual face
_FOCAL_RANGE = (0.7, 4.0)  # longer picture sides between which an unknown focal length is sought


@dataclass(frozen=True)
class FitPicture:
    """What is known of a picture's camera. focal: pixels, None: not known.  centre: principal point in pixels, None: the middle.

    Raises ValueError for a size or a centre that no picture has.
    """

    width: int
    height: int
    focal: float | None = None
    centre: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1:
            raise ValueError(f"a picture of {self.width}x{self.height} pixels: at least 1x1 is expected")
        if self.centre is not None and not np.isfinite(self.centre).all():
            raise ValueError(
                f"principal point {self.centre}: two numbers are expected; leave it out if it is not known"
            )


def assume_focal(detection: Detection, longer: float, config: FitConfig) -> float:
    """Pixels: halfway, in ratio, from the usual camera to the one that sees this face at its usual distance.

    longer: side of the whole photo, in pixels of the detection's.  The usual camera's where no point of the face is known.
    """
    if not detection.face_size:
        return config.focal * longer
    focal = np.sqrt(config.focal * longer * config.face_distance * detection.face_size / _FACE_LENGTH)
    return float(np.clip(focal, _FOCAL_RANGE[0] * longer, _FOCAL_RANGE[1] * longer))


@dataclass(frozen=True)
class _Case:
    """One person as the solver sees them: a right hand, perhaps in the mirror."""

    person: Person
    hand: Part
    head: Part
    face_points: Floats
    hand_points: Floats
    world: Floats
    depth: Floats
    depth_inverse: bool
    focal: float
    centre: tuple[float, float]
    width: int
    face_size: float

    @property
    def sure(self) -> bool:
        """Whether the hand's place and pose are roughly known: a network guessed them, and there are landmarks in metres."""
        return bool(self.person.head.contact.any() and np.isfinite(self.world).all())


class PeopleFitter:
    """Fits people whose bodies a decoder names. device: where the solver runs."""

    def __init__(self, hand: NamedBody, head: NamedBody, config: FitConfig = FitConfig(), device: str = "cpu") -> None:
        self.bodies = (hand, head)
        self.config, self.device = config, device
        self.hand = ParametricBody(hand.arrays, named_convention(hand.convention, "hand")).to(device)
        self.head = ParametricBody(head.arrays, named_convention(head.convention, "head")).to(device)
        self.solver = BodyFitter(self.hand, self.head, config)
        self.touching = Touching.of(hand.arrays, head.arrays)

    def fit(
        self, persons: Sequence[Person], pictures: Sequence[FitPicture], before: Sequence[Person | None] = ()
    ) -> list[Person]:
        """People, each with their picture -> the same people, fitted where that can be.

        before: the same people in the video's frame before, whose fit then stands for the network's guess.
        Who cannot be fitted comes back as they were, with `fit.reason`. A person without a detection comes back untouched.
        Raises ValueError for a focal length that no camera has.
        """
        if len(persons) != len(pictures):
            raise ValueError(f"{len(persons)} people and {len(pictures)} pictures: one for each person is expected")
        results = list(persons)
        cases: dict[int, _Case] = {}
        for index, (person, picture) in enumerate(zip(persons, pictures, strict=True)):
            focal = self._known_focal(picture)
            if person.detection is None:
                continue
            if reason := refuse(person.detection, self.config.min_points):
                results[index] = replace(person, fit=Fit(False, 0.0, reason, np.full(KEYPOINTS, np.nan, np.float32)))
            else:
                last = before[index] if before else None
                usable = last is not None and last.side == person.side and last.fit is not None and last.fit.fitted
                last = last if usable else None
                focal = focal or assume_focal(person.detection, max(picture.width, picture.height), self.config)
                cases[index] = self._case(person, person.detection, picture, focal, last)
        for rows in self._batches(cases):
            for row, person in zip(rows, self._solve([cases[row] for row in rows]), strict=True):
                results[row] = person
        return results

    def _batches(self, cases: dict[int, _Case]) -> Iterator[list[int]]:
        """Rows that are solved together: hands of which less is known apart, as they start in more ways."""
        for sure in (True, False):
            rows = [row for row, case in cases.items() if case.sure == sure]
            yield from (rows[start : start + self.config.batch] for start in range(0, len(rows), self.config.batch))

    def _known_focal(self, picture: FitPicture) -> float | None:
        longer = max(picture.width, picture.height)
        if picture.focal is None:
            return None
        if not (np.isfinite(picture.focal) and 0.2 * longer <= picture.focal <= 100 * longer):
            raise ValueError(
                f"focal length {picture.focal} pixels in a picture of {picture.width}x{picture.height}: between"
                f" {0.2 * longer:.0f} and {100 * longer:.0f} expected; leave it out if it is not known"
            )
        return float(picture.focal)

    def _case(
        self, person: Person, detection: Detection, picture: FitPicture, focal: float, last: Person | None
    ) -> _Case:
        hand, head = (person.hand, person.head) if last is None else (last.hand, last.head)
        face, fingers = np.array(detection.face, np.float32), np.array(detection.hand, np.float32)
        world = np.full((HAND_KEYPOINTS, 3), np.nan, np.float32)
        if detection.hand_world is not None:
            world = np.array(detection.hand_world, np.float32)
        depth = np.zeros((KEYPOINTS, 2), np.float32)
        if detection.depth is not None:
            depth = np.array(detection.depth.values, np.float32)
            depth[~np.isfinite(depth).all(1)] = 0
        if person.side == "left":
            hand, head = mirrored_hand(hand), mirrored_head(head, self.bodies[1])
            face = face[list(IBUG_MIRROR)]
            depth[:FACE_KEYPOINTS] = depth[list(IBUG_MIRROR)]
            face[:, 0], fingers[:, 0] = picture.width - 1 - face[:, 0], picture.width - 1 - fingers[:, 0]
            world[:, 0] *= -1
        cx, cy = picture.centre or ((picture.width - 1) / 2, (picture.height - 1) / 2)
        centre = (picture.width - 1 - cx if person.side == "left" else cx, cy)
        presence = touch_probability(person.presence, person.head.contact, detection)
        inverse = detection.depth is not None and detection.depth.inverse
        person = replace(person, presence=presence)
        return _Case(
            person, hand, head, face, fingers, world, depth, inverse, focal, centre, picture.width, detection.face_size
        )

    @torch.inference_mode()
    def _solve(self, cases: Sequence[_Case]) -> list[Person]:
        def stack(values: Sequence[object]) -> torch.Tensor:
            return torch.from_numpy(np.stack([np.asarray(value, np.float32) for value in values])).to(self.device)

        seen = Observations(
            stack([case.face_points for case in cases]),
            stack([case.hand_points for case in cases]),
            stack([case.focal for case in cases]),
            stack([case.centre for case in cases]),
            stack([case.world for case in cases]),
            stack([case.depth for case in cases]),
            torch.tensor([case.depth_inverse for case in cases], device=self.device),
            stack([case.face_size for case in cases]),
        )
        apart = [
            float(case.hand.vertices[:, 2].mean() - (case.head.vertices + case.head.deformation)[:, 2].mean())
            for case in cases
        ]
        distance = torch.nan_to_num(stack(apart))
        presence = stack([case.person.presence for case in cases])
        hands = [_vector(case.hand, self.hand) for case in cases]
        heads = [_vector(case.head, self.head) for case in cases]
        guess = Guess(
            self.solver.hand_points.unpack(stack(hands)),
            self.solver.head_points.unpack(stack(heads)),
            torch.where(presence >= TOUCHES, distance, _AWAY[0] * distance + _AWAY[1]),
            presence,
            torch.ones(len(cases), device=self.device),
            cases[0].sure,
        )

        def offset_to_skin(
            hands: FitParameters, heads: FitParameters, touches: torch.Tensor, back: float
        ) -> torch.Tensor:
            hand = self.hand(**pose(self.hand, hands)).vertices.double().cpu().numpy()
            head = self.head(**pose(self.head, heads)).vertices.double().cpu().numpy()
            return stack([self.touching.offset(*pair, back) for pair in zip(hand, head, touches.tolist(), strict=True)])

        return self._finish(cases, seen, self.solver.fit(seen, guess, offset_to_skin))

    def _finish(self, cases: Sequence[_Case], seen: Observations, solution: Solution) -> list[Person]:
        hand = self.hand(**pose(self.hand, solution.hand))
        head = self.head(**pose(self.head, solution.head))
        residuals = torch.cat(
            [
                _residuals(head.keypoints, seen.face, seen),
                _residuals(hand.keypoints, seen.hand, seen),
            ],
            1,
        )
        found = []
        for row, case in enumerate(cases):
            mine = residuals[row].cpu().numpy()
            if case.person.side == "left":  # out of the mirror: judged beside the person's own points
                mine[:FACE_KEYPOINTS] = mine[list(IBUG_MIRROR)]
            found.append(self._person(case, judge(case.person, mine), row, hand, head, solution))
        return found

    def _person(
        self, case: _Case, fit: Fit, row: int, hand: BodyOutput, head: BodyOutput, solution: Solution
    ) -> Person:
        """One row of the solution as a person about the mean head vertex, out of the mirror; or the start, if that is better."""
        if not fit.fitted:
            return replace(case.person, fit=fit)
        origin = head.vertices[row].mean(0)
        fingers = _part(case.hand, self.hand, hand, solution.hand, row, origin)
        face = _part(case.head, self.head, head, solution.head, row, origin)
        presence = float(solution.presence[row])
        fit = replace(fit, depth=bool(solution.depth_told[row]))
        fingers, face = settle(self.touching, fingers, face, presence)
        x, y, z = origin.tolist()
        cx, cy = case.centre
        if case.person.side == "left":
            fingers, face = mirrored_hand(fingers), mirrored_head(face, self.bodies[1])
            x, cx = -x, case.width - 1 - cx
        camera = PinholeCamera(case.focal, cx, cy, (x, y, z))
        return replace(case.person, hand=fingers, head=face, camera=camera, presence=presence, fit=fit)


def _part(part: Part, body: ParametricBody, out: BodyOutput, x: FitParameters, row: int, origin: torch.Tensor) -> Part:
    """A fitted part, undeformed, about `origin` (3,); contact is still the network's."""
    parameters = {name: value[row].cpu().numpy() for name, value in pose(body, x).items() if value.shape[1]}
    parameters["transl"] = parameters["transl"] - origin.cpu().numpy()
    return replace(
        part,
        vertices=(out.vertices[row] - origin).cpu().numpy(),
        keypoints_3d=(out.keypoints[row] - origin).cpu().numpy(),
        parameters=parameters,
        offset=None,
        faces=np.asarray(body.arrays.faces, np.int64),
    )


def _vector(part: Part, body: ParametricBody) -> NDArray[np.float32]:
    """A part's parameters as the solver packs them; what is missing is zero."""
    widths = {"betas": body.arrays.num_betas, "expression": body.arrays.num_expressions, "pose": body.num_pose}
    widths |= {"global_orient": 3, "transl": 3}
    values = []
    for name, width in widths.items():
        value = np.ravel(part.parameters.get(name, np.zeros(width)))
        if len(value) != width:
            raise ValueError(f"{name} of a {body.arrays.kind} has {len(value)} values, its body takes {width}")
        values.append(value)
    return np.nan_to_num(np.concatenate(values)).astype(np.float32)


def _residuals(keypoints: torch.Tensor, points: torch.Tensor, seen: Observations) -> torch.Tensor:
    """(B, K) distances in shares of the face's size, NaN where a point was not seen."""
    plane = keypoints[..., :2] / keypoints[..., 2:] * seen.focal[:, None, None] + seen.centre[:, None]
    off = (plane - points[..., :2]).norm(dim=2) / seen.face_size[:, None]
    return torch.where(points[..., 2] > 0, off, torch.nan)
