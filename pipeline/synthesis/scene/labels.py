"""Exact labels of a rendered scene, as the sample contract wants them (docs/synthesis.md says what each means here)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.render import NOTHING, Picture
from handface.pipeline.contract.sample import DEPTH_POINTS, LEFT, RIGHT, KeypointDepth, Labels
from handface.pipeline.synthesis.person.bodies import HAND_MODEL, HEAD_MODEL, free_hand, free_head
from handface.pipeline.synthesis.person.dress import SECOND, DressedScene
from handface.pipeline.synthesis.scene.attempt import FLIP
from handface.pipeline.synthesis.scene.scene import Scene
from handface.pipeline.synthesis.scene.view import SceneView

Array = NDArray[np.float64]
DEPTH_SOURCE = "synthetic"
MOVES = 1e-4  # metres: smaller displacements are not stored
_FACE_SLACK, _HAND_SLACK = (
    0.010,
    0.014,
)  # metres a keypoint may lie behind the surface that the picture shows at its pixel
_OWN_DEPTH = 0.03  # metres between a point and the surface whose depth is given for it
ARM_MESHES = ("hand", "forearm", "sleeve")


@dataclass(frozen=True)
class SceneKeypoints:
    """The 89 points, face then hand, of the bodies as their parameters pose them, before the skin yields; K = 89, or 110 with the
    21 of a second hand behind them.

    camera: (K, 3) metres, camera axes.  pixels: (K, 2) their projection.  visible: (K,) bool.  surface: (K,) metres, depth of
    what the picture shows at the point, inf for the background.
    """

    camera: Array
    pixels: Array
    visible: NDArray[np.bool_]
    surface: Array


def scene_keypoints(scene: Scene, view: SceneView, picture: Picture, dressed: DressedScene) -> SceneKeypoints:
    """Project the keypoints and see which the picture shows.

    A point is visible if it lies in the picture and the surface at its pixel is its own body's and not much nearer than the
    point itself: 1 cm for the face; for hand joints, which lie inside, the finger's thickness.
    """
    points = np.concatenate([scene.head_keypoints, scene.mirrored(scene.hand.keypoints)])
    if scene.second is not None:
        points = np.concatenate([points, scene.second.mirrored(scene.second.hand.keypoints)])
    camera = view.to_camera(points)
    points[:68] += _moved_with_skin(scene)
    seen = view.to_camera(points)
    size = np.array([view.camera.width, view.camera.height])
    nearest = np.round(view.camera.project(seen)).astype(int)
    inside = ((nearest >= 0) & (nearest < size)).all(1)
    x, y = np.clip(nearest, 0, size - 1).T
    surface, mesh = picture.buffers.depth[y, x].astype(np.float64), picture.mesh[y, x]
    number = np.arange(len(points))
    is_hand = number >= 68
    on_first, on_second = (
        np.isin(mesh, [k for k, name in enumerate(dressed.names) if name in arm])
        for arm in (ARM_MESHES, [SECOND + name for name in ARM_MESHES])
    )
    on_own_arm = np.where(number < DEPTH_POINTS, on_first, on_second)
    own = np.where(is_hand, on_own_arm, (mesh != NOTHING) & ~on_first & ~on_second)
    slack = np.where(is_hand, _HAND_SLACK, _FACE_SLACK)
    # the pixel of a point on the jaw may just miss the outline; nothing covers it then
    uncovered = ~is_hand & (mesh == NOTHING)
    visible = inside & ((own & (seen[:, 2] - surface < slack)) | uncovered)
    return SceneKeypoints(camera, np.asarray(view.camera.project(camera), np.float64), visible, surface)


def _moved_with_skin(scene: Scene) -> Array:
    """Displacement of the 68 landmarks, (68, 3): they lie on the skin and go where it goes."""
    points = free_head().arrays.keypoint_sets["ibug68"]
    moved: Array = np.einsum("kc,kcd->kd", points.weights, scene.displacement[points.vertices])
    return moved


def scene_labels(scene: Scene, view: SceneView, points: SceneKeypoints) -> Labels:
    """All numeric labels of a scene.

    The bodies' parameters put the models' vertices into camera axes. head_deformation is what is added to the undeformed
    head before its global_orient: v = R (v0 + d - j) + j + transl, j the root joint.
    """
    confidence = np.ones((len(points.pixels), 1))
    pixels = np.concatenate([points.pixels, confidence], 1).astype(np.float32)
    rows = np.flatnonzero(np.linalg.norm(scene.displacement, axis=1) > MOVES)
    head_orient, head_transl = rigid_parameters(view.rotation, view.translation, scene.head_root)
    hand_orient, hand_transl = _hand_rigid(scene, view)
    person = scene.person
    pose = scene.hand.pose * ([1.0, -1.0, -1.0] if scene.left else 1.0)
    # at an outline the pixel may show what lies far behind the point
    visible, surface, camera = (
        points.visible[:DEPTH_POINTS],
        points.surface[:DEPTH_POINTS],
        points.camera[:DEPTH_POINTS],
    )
    known = visible & (np.abs(surface - camera[:, 2]) < _OWN_DEPTH)
    depth = np.stack([np.where(known, surface, 0), known], 1).astype(np.float32)
    side = LEFT if scene.left else RIGHT
    return Labels(
        face_keypoints_2d=pixels[:68],
        hand_keypoints_2d=pixels[68:].reshape(-1, 21, 3),
        hand_side=np.array([side] if scene.second is None else [side, LEFT + RIGHT - side], np.uint8),
        keypoint_visibility=visible.astype(np.uint8),
        camera_intrinsics=view.camera.intrinsics.astype(np.float32),
        hand_betas=person.hand_betas.astype(np.float32),
        hand_pose=pose.astype(np.float32),
        hand_global_orient=hand_orient.astype(np.float32),
        hand_transl=hand_transl.astype(np.float32),
        hand_keypoints_3d=camera[68:].astype(np.float32),
        hand_contact=np.packbits(scene.touch.hand_contact),
        head_betas=person.head_betas.astype(np.float32),
        head_expression=person.expression.astype(np.float32),
        head_pose=person.head_pose.astype(np.float32),
        head_global_orient=head_orient.astype(np.float32),
        head_transl=head_transl.astype(np.float32),
        head_keypoints_3d=camera[:68].astype(np.float32),
        head_contact=np.packbits(scene.touch.head_contact),
        head_deformation_rows=rows.astype(np.int32),
        head_deformation=scene.displacement[rows].astype(np.float16),
        keypoint_depth={DEPTH_SOURCE: KeypointDepth(depth, "metric")},
        hand_model=HAND_MODEL,
        head_model=HEAD_MODEL,
        origin_3d="exact",
    )


def rigid_parameters(rotation: Array, translation: Array, root: Array) -> tuple[Array, Array]:
    """global_orient (3,) and transl (3,) of x -> R x + t for a body that turns about `root` (3,): t = transl + root - R root."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_rotvec(), translation - root + rotation @ root


def _hand_rigid(scene: Scene, view: SceneView) -> tuple[Array, Array]:
    """The hand's parameters in camera axes; of the left model (the right one in the mirror x -> -x) for a left hand."""
    hand, body = scene.hand, free_hand()
    root = body.posed(scene.person.hand_betas, hand.pose[None]).root[0]
    rotation, translation = hand.rotation, hand.translation
    if scene.left:  # M R M and M t, M = diag(-1, 1, 1)
        rotation, translation, root = rotation * np.outer(FLIP, FLIP), translation * FLIP, root * FLIP
    return rigid_parameters(view.rotation @ rotation, view.rotation @ translation + view.translation, root)
