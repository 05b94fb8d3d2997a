"""What still cameras see of a moving person: calibration, look, and each frame's picture, mask, boxes, keys and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handface.model.render import NOTHING, PerspectiveCamera, render
from handface.model.render.texture import to_srgb
from handface.pipeline.decaf.layout import HAND_PARAMS, HEAD_PARAMS, DecafCamera, DecafView, Pose3D
from handface.pipeline.synthesis.person.bodies import free_hand, free_head
from handface.pipeline.synthesis.person.dress import dress
from handface.pipeline.synthesis.scene.background import draw_background
from handface.pipeline.synthesis.scene.domain import DOMAINS
from handface.pipeline.synthesis.scene.labels import MOVES, rigid_parameters, scene_keypoints
from handface.pipeline.synthesis.scene.view import SceneView, draw_light
from handface.pipeline.synthesis.studio.dataset import CAMERAS, StudioConfig
from handface.pipeline.synthesis.studio.motion import MovingScene

if TYPE_CHECKING:
    from handface.model.bodies.body import ParametricBody
    from handface.pipeline.synthesis.person.identity import SyntheticPerson

Array = NDArray[np.float64]
_HIDDEN = 0.4  # confidence of a point that the picture hides
_FOUND = 0.15  # share of a body's points that must be visible for a detector to find it
_SPAN = np.deg2rad(70)  # of the arc on which the cameras stand
_ARM = 0.42  # metres of forearm: these pictures are wider than single scenes'
_FILLED = 0.75  # share of the picture's height that a head of 30 cm takes


@dataclass(frozen=True)
class Shot:
    """One frame as Decaf stores it. views: by camera id.  hand_keypoints: (21, 3) world, tips shortened."""

    pose: Pose3D
    views: dict[str, DecafView]
    hand_keypoints: Array


class Studio:
    """Cameras and lights of one subject, all fixed for the whole sequence; so are skin, clothes and backdrop.

    cameras: by id. World axes are the resting head's: x to the person's left, y up, z out of the face, metres.
    """

    def __init__(self, config: StudioConfig, number: int, person: SyntheticPerson) -> None:
        self.config, self.number = config, number
        rng = np.random.default_rng([config.seed, number, 2])
        domain = DOMAINS[config.pictures.domain]
        centre = free_head().posed(person.head_betas, np.zeros((1, 4, 3))).vertices[0].mean(0)
        self.cameras = draw_cameras(rng, centre, config)
        self._lights, self._backdrops = {}, {}
        width, height = config.capture.width, config.capture.height
        for name, camera in self.cameras.items():
            self._lights[name] = draw_light(rng, _view(camera, np.eye(4), width, height), domain)
            backdrop = draw_background(rng, max(width, height), domain, config.pictures.backgrounds)
            self._backdrops[name] = np.ascontiguousarray(backdrop[:height, :width])

    def shoot(self, moment: MovingScene, frame: int) -> Shot:
        """A moment as all cameras see it."""
        scene = moment.scene
        pose = decaf_pose(moment)
        hand_keypoints, head_keypoints = _decaf_keypoints(pose)
        views = {}
        for k, (name, camera) in enumerate(self.cameras.items()):
            capture = self.config.capture
            view = _view(camera, moment.rigid, capture.width, capture.height)
            look = np.random.default_rng([self.config.seed, self.number, 3])  # the same for all frames and cameras
            size = 512 if capture.height <= 480 else 1024
            dressed = dress(look, scene, view, DOMAINS[self.config.pictures.domain], size, _ARM)
            picture = render(
                dressed.meshes, view.camera, self._lights[name], self._backdrops[name],
                supersample=self.config.pictures.supersample,
            )  # fmt: skip
            grain = np.random.default_rng([self.config.seed, self.number, 4, frame, k])
            noise = grain.normal(0, 0.004, (*picture.mesh.shape, 1)).astype(np.float32)
            image = to_srgb(picture.colour * (1 + noise) + noise * np.float32(0.3))
            visible = scene_keypoints(scene, view, picture, dressed).visible
            head = (scene.head + scene.displacement)[free_head().arrays.masks["neck"] < 0.5]
            views[name] = DecafView(
                image,
                picture.mesh != NOTHING,
                _box(view, head, visible[:68]),
                _box(view, scene.hand.vertices, visible[68:]),
                _keys(camera, view, head_keypoints, visible[:68]),
                _keys(camera, view, hand_keypoints, visible[68:]),
            )
        return Shot(pose, views, hand_keypoints)


def draw_cameras(rng: np.random.Generator, centre: Array, config: StudioConfig) -> dict[str, DecafCamera]:
    """Calibrated cameras on an arc before the face, the first one nearly frontal. centre: (3,) what they look at, world."""
    width, height, count = config.capture.width, config.capture.height, config.capture.cameras
    cameras = {}
    for k, name in enumerate(CAMERAS[:count]):
        step = (k + 1) // 2 * (-1 if k % 2 else 1)  # 0, -1, 1, -2, 2 ... steps aside
        yaw = step * _SPAN / max(count, 3) + rng.normal(0, np.deg2rad(3))
        pitch, distance = rng.normal(np.deg2rad(3), np.deg2rad(4)), rng.uniform(0.8, 1.0)
        toward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        right = np.cross([0.0, 1.0, 0.0], toward)
        right /= np.linalg.norm(right)
        extrinsic = np.eye(4)
        extrinsic[:3, :3] = np.stack([right, -np.cross(toward, right), -toward])
        aim = centre + np.array([-0.01, -0.02, 0.0]) + rng.normal(0, 0.008, 3)
        extrinsic[:3, 3] = [0, 0, distance] - extrinsic[:3, :3] @ aim
        focal = _FILLED * height * distance / 0.30 * rng.uniform(0.97, 1.03)
        aside = (
            (1 if k % 2 else -1) * rng.uniform(0.002, 0.006) * width
        )  # both sides of the middle: flipping has two cases
        intrinsic = np.array([[focal, 0, (width - 1) / 2 + aside], [0, focal * 1.001, (height - 1) / 2], [0, 0, 1]])
        cameras[name] = DecafCamera(intrinsic, extrinsic, {"distortion": np.zeros(5)})
    return cameras


def _view(camera: DecafCamera, rigid: Array, width: int, height: int) -> SceneView:
    """A camera as seen from the head: head axes -> camera axes."""
    whole = camera.extrinsic @ rigid
    return SceneView(whole[:3, :3], whole[:3, 3], PerspectiveCamera(camera.intrinsic, width, height))


def decaf_pose(moment: MovingScene) -> Pose3D:
    """Decaf's parameters of a moment: world axes, jaw only, deformation to be subtracted, nothing of it or contact on the neck."""
    from scipy.spatial.transform import Rotation

    scene, rigid = moment.scene, moment.rigid
    person, hand = scene.person, scene.hand
    turn, shift, centre = rigid[:3, :3], rigid[:3, 3], scene.head.mean(0)
    head = {
        "transl": shift - centre + turn @ centre,
        "global_orient": Rotation.from_matrix(turn).as_rotvec(),
        "shape_params": person.head_betas,
        "pose_params": np.concatenate([np.zeros(3), person.head_pose[1]]),
        "expression_params": person.expression[: HEAD_PARAMS["expression_params"]],
    }
    root = free_hand().posed(person.hand_betas, hand.pose[None]).root[0]
    orient, transl = rigid_parameters(turn @ hand.rotation, turn @ hand.translation + shift, root)
    hands = {"betas": person.hand_betas, "global_orient": orient, "hand_pose": hand.pose.ravel(), "transl": transl}
    assert all(hands[key].shape == (size,) for key, size in HAND_PARAMS.items())
    neck = free_head().arrays.masks["neck"] > 0.5
    still = neck | (np.linalg.norm(scene.displacement, axis=1) < MOVES)
    deformation = np.where(still[:, None], 0, -scene.displacement)
    return Pose3D(
        {key: value.astype(np.float32) for key, value in head.items()},
        {key: value.astype(np.float32) for key, value in hands.items()},
        scene.touch.head_contact & ~neck,
        scene.touch.hand_contact,
        deformation.astype(np.float32),
    )


@cache
def _decaf_bodies() -> tuple[ParametricBody, ParametricBody]:
    import torch

    from handface.model.bodies.load import load_body

    hand, head = (load_body(name, "decaf", dtype=torch.float64) for name in ("free-hand", "free-head"))
    return hand, head


def _decaf_keypoints(pose: Pose3D) -> tuple[Array, Array]:
    """World keypoints of the stored parameters as Decaf's code computes them: hand (21, 3), head (68, 3)."""
    import torch

    def batch(value: NDArray[np.float32]) -> Any:
        return torch.from_numpy(value.astype(np.float64))[None]

    hand, head = _decaf_bodies()
    h, f = pose.hand, pose.head
    with torch.inference_mode():
        posed = hand(
            betas=batch(h["betas"]),
            pose=batch(h["hand_pose"]),
            global_orient=batch(h["global_orient"]),
            transl=batch(h["transl"]),
        )
        faced = head(
            betas=batch(f["shape_params"]),
            pose=batch(f["pose_params"]),
            global_orient=batch(f["global_orient"]),
            transl=batch(f["transl"]),
            expression=batch(f["expression_params"]),
        )
    return posed.keypoints[0].numpy(), faced.keypoints[0].numpy()


def _keys(camera: DecafCamera, view: SceneView, points: Array, visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """x, y, confidence (N, 3) of world points (N, 3): 1 where visible, less where hidden, all 0 outside or if hardly any is seen."""
    pixels = camera.project(points)
    inside = ((pixels >= 0) & (pixels <= [view.camera.width - 1, view.camera.height - 1])).all(1)
    keys = np.concatenate([pixels, np.where(visible, 1.0, _HIDDEN)[:, None]], 1)
    keys[~inside | (visible.mean() < _FOUND)] = 0
    return keys.astype(np.float32)


def _box(view: SceneView, points: Array, visible: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """The box around points (N, 3) of head axes, cut at the picture's border; None if a detector would not find the body."""
    size = [view.camera.width, view.camera.height]
    pixels = view.camera.project(view.to_camera(points))
    low = np.clip(np.floor(pixels.min(0)), 0, size).astype(int)
    high = np.clip(np.ceil(pixels.max(0)), 0, size).astype(int)
    if visible.mean() < _FOUND or (low >= high).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
