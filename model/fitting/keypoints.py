"""Fit keypoints from any source (own labels, COCO-WholeBody, another detector) without a network: the mean bodies are the guess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.bodies.convention import named_convention
from handface.model.bodies.load import load_arrays
from handface.model.fitting.config import FitConfig
from handface.model.fitting.people import FitPicture, PeopleFitter
from handface.model.network.config import FACING, HAND_AT_FACE
from handface.model.network.decode import NamedBody, mirrored_hand, mirrored_head
from handface.model.prediction.prediction import Detection, Floats, Part, Person, WeakCamera

_BEFORE_FACE = 0.05  # metres from the hand's mean to the head's, towards the camera
_WHOLEBODY, _FACE, _HANDS = 133, slice(23, 91), {"left": slice(91, 112), "right": slice(112, 133)}


def fit_keypoints(
    detections: Sequence[Detection],
    pictures: Sequence[FitPicture],
    hand_model: str = "free-hand",
    head_model: str = "free-head",
    convention: str | None = None,
    config: FitConfig = FitConfig(),
    device: str = "cpu",
) -> list[Person]:
    """Bodies that lie on the given points.

    Args:
        detections: face (68, 3) in iBUG order and hand (21, 3) in MediaPipe's: x, y in pixels, confidence in [0, 1], 0 where unknown.
        pictures: size of each detection's picture, and its camera as far as that is known.
        hand_model: `free-hand`, or an imported body file (.npz).
        head_model: `free-head`, or an imported body file (.npz).
        convention: how parameters are meant, as `load_body` takes it; by default `free` for the free bodies, else `smplx`.
        config: how the fit weighs things.
        device: where the solver runs.

    Returns:
        One person per detection. `person.fit` says whether they were fitted, how far to trust it, and why not.

    Raises:
        BodyFileError: a body cannot be read.
        ValueError: a focal length that no camera has, a body of the other kind, not one picture for each detection.
    """
    bodies = (_named("hand", hand_model, convention), _named("head", head_model, convention))
    fitter = PeopleFitter(*bodies, config, device)
    return fitter.fit([_mean_person(fitter, one) for one in detections], pictures)


def from_coco_wholebody(points: NDArray[np.floating]) -> list[Detection]:
    """One person's COCO-WholeBody points (133, 3) -> a detection for each hand that has any point. Raises ValueError."""
    points = np.asarray(points, np.float32)
    if points.shape != (_WHOLEBODY, 3):
        raise ValueError(f"COCO-WholeBody points have shape ({_WHOLEBODY}, 3): x, y, confidence; these {points.shape}")
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    found = [(side, points[_HANDS[side]]) for side in sides]
    return [
        Detection(points[_FACE], hand, side, float(hand[:, 2].mean())) for side, hand in found if (hand[:, 2] > 0).any()
    ]


def _named(kind: str, body: str, convention: str | None) -> NamedBody:
    arrays = load_arrays(body)
    if arrays.kind != kind:
        raise ValueError(f"{body} is a {arrays.kind}, not a {kind}")
    name = convention or ("free" if body.startswith("free-") else "smplx")
    joints = named_convention(name, kind).pose_joints or tuple(range(1, len(arrays.parents)))
    return NamedBody(arrays, body, name, joints)


def _mean_person(fitter: PeopleFitter, detection: Detection) -> Person:
    """The mean bodies before the camera, a right hand or its mirror image, seen nowhere in particular."""
    parts = []
    for body, named, orient in zip((fitter.hand, fitter.head), fitter.bodies, (HAND_AT_FACE, FACING), strict=True):
        out = body(global_orient=torch.tensor([orient], device=fitter.device))
        middle = out.vertices[0].mean(0)
        if named.arrays.kind == "hand":
            middle = middle + torch.tensor([0.0, 0.0, _BEFORE_FACE], device=fitter.device)
        widths = {"betas": named.arrays.num_betas, "expression": named.arrays.num_expressions, "pose": body.num_pose}
        parameters: dict[str, Floats] = {name: np.zeros(width, np.float32) for name, width in widths.items() if width}
        parameters |= {"global_orient": np.array(orient, np.float32), "transl": (-middle).cpu().numpy()}
        vertices = (out.vertices[0] - middle).cpu().numpy()
        parts.append(
            Part(
                vertices=vertices,
                faces=np.asarray(named.arrays.faces, np.int64),
                keypoints_3d=(out.keypoints[0] - middle).cpu().numpy(),
                contact=np.zeros(len(vertices), np.float32),
                deformation=np.zeros_like(vertices),
                parameters=parameters,
                body=named.name,
                convention=named.convention,
            )
        )
    hand, head = parts
    if detection.side == "left":
        hand, head = mirrored_hand(hand), mirrored_head(head, fitter.bodies[1])
    camera = WeakCamera(1.0, 0.0, 0.0)
    return Person(hand, head, detection.side, camera, 0.5, detection.confidence, np.eye(3), detection)
