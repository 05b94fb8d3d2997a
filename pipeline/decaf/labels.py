"""A Decaf frame as labels of a sample: parameters moved from the world into one camera, pixels into the crop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.bodies.body import BodyOutput, ParametricBody
from handface.model.bodies.names import MEDIAPIPE_FROM_POINTS
from handface.pipeline.contract.images.affine import move_points
from handface.pipeline.contract.sample import MAX_CROP, RIGHT, Crop, Labels
from handface.pipeline.decaf.layout import DecafCamera, DecafView, Pose3D

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DecafBodies:
    """The two bodies of a Decaf folder, in its conventions, and what labels call them."""

    hand: ParametricBody
    head: ParametricBody
    hand_model: str
    head_model: str


@dataclass(frozen=True)
class BodiesInView:
    """Parameters and keypoints in camera axes. orient, transl: (3,).  keypoints: hand (21, 3), head (68, 3), metres."""

    hand_orient: Array
    hand_transl: Array
    hand_keypoints: Array
    head_orient: Array
    head_transl: Array
    head_keypoints: Array


def pose_in_camera(bodies: DecafBodies, pose: Pose3D, camera: DecafCamera) -> BodiesInView:
    """Apply the extrinsic E = [Q | q] to parameters. A body that turns about p, v = R (v0 - p) + p + t, becomes
    R' = Q R and t' = Q (p + t) + q - p: p is the hand's root joint and the head's vertex centroid, both before the turn.
    """
    hand: dict[str, NDArray[Any]] = {"betas": pose.hand["betas"], "pose": pose.hand["hand_pose"]}
    head: dict[str, NDArray[Any]] = {
        "betas": pose.head["shape_params"],
        "pose": pose.head["pose_params"],
        "expression": pose.head["expression_params"],
    }
    still_hand, still_head = _forward(bodies.hand, hand), _forward(bodies.head, head)
    hand_pivot, head_pivot = still_hand.joints[0, 0].numpy(), still_head.vertices[0].mean(0).numpy()
    placed = []
    for body, values, params, pivot in (
        (bodies.hand, hand, pose.hand, hand_pivot),
        (bodies.head, head, pose.head, head_pivot),
    ):
        orient, transl = _moved(params["global_orient"], params["transl"], pivot, camera.extrinsic)
        output = _forward(body, values | {"global_orient": orient, "transl": transl})
        placed += [orient, transl, output.keypoints[0].numpy().astype(np.float64)]
    return BodiesInView(*placed)


def _forward(body: ParametricBody, values: Mapping[str, NDArray[Any]]) -> BodyOutput:
    """Coefficients beyond those that the body has must be 0, as for a smaller body's."""
    limits = {"betas": body.arrays.num_betas, "expression": body.arrays.num_expressions}
    tensors = {}
    for name, value in values.items():
        if np.any(value[limits.get(name) :]) and name in limits:
            raise ValueError(f"{name} has {len(value)} coefficients, the {body.arrays.kind} only {limits[name]}")
        tensors[name] = torch.from_numpy(np.asarray(value[: limits.get(name)], np.float64))[None].to(body.dtype)
    with torch.no_grad():
        output: BodyOutput = body(**tensors)
    return output


def _moved(
    orient: NDArray[np.float32], transl: NDArray[np.float32], pivot: Array, extrinsic: Array
) -> tuple[Array, Array]:
    from scipy.spatial.transform import Rotation

    turn, shift = extrinsic[:3, :3], extrinsic[:3, 3]
    moved = Rotation.from_matrix(turn) * Rotation.from_rotvec(np.asarray(orient, np.float64))
    return moved.as_rotvec(), turn @ (pivot + transl) + shift - pivot


def crop_of(view: DecafView) -> Crop:
    """The authors' square: full height, centred on the mean of both boxes' x, inside the picture, shrunk to at most 512 px.

    A box that was not found counts as the whole picture.
    """
    height, width = view.image.shape[:2]
    whole = (0, 0, width, height)
    boxes = (view.head_box or whole, view.hand_box or whole)
    side = min(width, height)
    centre = sum(box[0] + box[2] for box in boxes) / 4
    left = round(min(max(centre - side / 2, 0), width - side))
    size = min(side, MAX_CROP)
    scale = side / size
    shift = (scale - 1) / 2  # pixel centres at integers
    affine = ((scale, 0.0, left + shift), (0.0, scale, shift), (0.0, 0.0, 1.0))
    return Crop(affine, size, width, height)


def cut_out(view: DecafView, crop: Crop) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The crop's picture (S, S, 3) uint8, background and all, and its mask (S, S) uint8 of 0 and 255."""
    import cv2

    side = min(view.image.shape[:2])
    left = round(crop.affine[0][2] - (crop.affine[0][0] - 1) / 2)
    image = np.ascontiguousarray(view.image[:side, left : left + side])
    mask = np.ascontiguousarray(view.mask[:side, left : left + side].astype(np.uint8) * 255)
    if crop.size != side:
        size = crop.size, crop.size
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return image, np.where(mask > 127, 255, 0).astype(np.uint8)


def frame_labels(bodies: DecafBodies, pose: Pose3D, view: DecafView, camera: DecafCamera, crop: Crop) -> Labels:
    """All labels of one frame in one camera. 2D keypoints are the stored detections; deformation is what is ADDED to the head."""
    placed = pose_in_camera(bodies, pose, camera)
    to_crop = np.linalg.inv(np.asarray(crop.affine))
    displacement = -pose.deformation
    rows = np.flatnonzero(displacement.any(1))
    labels = Labels(
        face_keypoints_2d=_in_crop(view.head_keys, to_crop),
        camera_intrinsics=(to_crop @ camera.intrinsic).astype(np.float32),
        hand_betas=pose.hand["betas"],
        hand_pose=pose.hand["hand_pose"].reshape(-1, 3),
        hand_global_orient=placed.hand_orient.astype(np.float32),
        hand_transl=placed.hand_transl.astype(np.float32),
        hand_keypoints_3d=placed.hand_keypoints.astype(np.float32),
        hand_contact=np.packbits(pose.hand_contact),
        head_betas=pose.head["shape_params"],
        head_expression=pose.head["expression_params"],
        head_pose=pose.head["pose_params"].reshape(-1, 3),
        head_global_orient=placed.head_orient.astype(np.float32),
        head_transl=placed.head_transl.astype(np.float32),
        head_keypoints_3d=placed.head_keypoints.astype(np.float32),
        head_contact=np.packbits(pose.head_contact),
        head_deformation_rows=rows.astype(np.int32),
        head_deformation=displacement[rows].astype(np.float16),
        hand_side=np.array([RIGHT], np.uint8),
        hand_keypoints_2d=_in_crop(view.hand_keys, to_crop)[None],
        hand_model=bodies.hand_model,
        head_model=bodies.head_model,
        origin_3d="measured",
    )
    return labels if view.head_keys[:, 2].any() else replace(labels, face_keypoints_2d=None)


def _in_crop(keys: NDArray[np.float32], to_crop: Array) -> NDArray[np.float32]:
    """x, y, confidence moved into the crop; points that were not found stay at 0, 0, 0."""
    moved = move_points(keys, to_crop)
    moved[keys[:, 2] <= 0] = 0
    return moved


def order_error(keys: NDArray[np.float32], projected: Array) -> tuple[float, float]:
    """Mean distance in pixels of stored hand keys (21, 3) to projected joints, read in MediaPipe's order and in MANO's, tips last.

    Which of the two Decaf's files follow is not published.
    """
    distances = [
        np.linalg.norm(order[:, :2] - projected, axis=1).mean() for order in (keys, keys[list(MEDIAPIPE_FROM_POINTS)])
    ]
    return float(distances[0]), float(distances[1])
