"""The free right hand: 16 joints in MANO's order, 21 keypoints in MediaPipe's, ten shape coefficients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.arrays import BodyArrays, KeypointSet
from handface.model.bodies.build.fit import hand_offsets
from handface.model.bodies.build.region import boundary_loops, cut, fan, merged_weights, skin_quads
from handface.model.bodies.build.regions_soft import soft_masks
from handface.model.bodies.build.shapes import AxisFields, Macros, Probe, local_axes, principal_components, rigid_align
from handface.model.bodies.build.wheel import HumanData
from handface.model.bodies.decimate import build_levels
from handface.model.bodies.names import FINGERS, HAND_JOINTS, HAND_PARENTS, KEYPOINT_BONES, MEDIAPIPE_FROM_POINTS, TIPS

_RIG_FINGER = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
NUM_BETAS = 10
_SAMPLES, _SEED = 400, 0
_SIGMA = {"scale": 0.12, "length": 0.12, "diameter": 0.3, "wrist": 0.3}  # small: full strength of `scale` is +-32 %
_LEVELS = (195,)


def hand_quads(human: HumanData) -> NDArray[np.bool_]:
    """(Q,) quads of the right hand, cut at the wrist."""
    return skin_quads(human, ("hand.R",))


def build_hand(human: HumanData) -> BodyArrays:
    """Measure, sample and sum up the right hand, in MANO's rest frame: fingers to -x, palm to -y, thumb to +z, wrist at 0."""
    region = cut(human, hand_quads(human))
    joints = ["joint-r-hand"] + [f"joint-r-finger-{_RIG_FINGER[f]}-{k}" for f in FINGERS for k in (1, 2, 3)]
    tips = [f"joint-r-finger-{_RIG_FINGER[f]}-4" for f in TIPS]
    count = len(region.vertex_ids)
    mean, basis, variances = _shape_space(Probe(human, region, joints + tips), count)
    points, point_basis = mean[count:], basis[count:]
    bones = [["wrist.R", "lowerarm02.R", "lowerarm01.R"] + [f"metacarpal{i}.R" for i in (1, 2, 3, 4)]]
    bones += [[f"finger{_RIG_FINGER[f]}-{k}.R"] for f in FINGERS for k in (1, 2, 3)]
    ring = boundary_loops(region.faces)[0]
    return BodyArrays(
        kind="hand",
        template=mean[:count].astype(np.float32),
        faces=region.faces.astype(np.int32),
        shapedirs=basis[:count].astype(np.float16),
        weights=merged_weights(human, region, bones).astype(np.float32),
        parents=np.array(HAND_PARENTS, np.int32),
        joint_names=HAND_JOINTS,
        joint_template=points[:16].astype(np.float32),
        joint_shapedirs=point_basis[:16].astype(np.float32),
        keypoint_sets=_keypoint_sets(points, point_basis),
        expressiondirs=np.zeros((count, 3, 0), np.float16),
        joint_expressiondirs=np.zeros((16, 3, 0), np.float32),
        posedirs=np.zeros((count, 3, 0), np.float16),
        uv=region.uv.astype(np.float32),
        face_uv=region.face_uv.astype(np.int32),
        flexion_axes=_flexion_axes(points).astype(np.float32),
        masks=soft_masks(human, region, {"nails": "mpfb_fingernails.jpg"}),
        rings={"wrist": ring.astype(np.int32)},
        caps=fan(ring),
        levels=build_levels(mean[:count], region.faces, _LEVELS),
        provenance={"shape_variance_m2": [float(f"{v:.4g}") for v in variances], "samples": _SAMPLES, "seed": _SEED},
    )


def _shape_space(probe: Probe, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean points (V + 21, 3), basis (V + 21, 3, S) and variances (S,) of random hands, aligned on the wrist."""
    rng = np.random.default_rng(_SEED)
    macros = Macros(probe)
    targets = [
        t for t in probe.human.targets("hands/r-hand") + probe.human.targets("hands/measure-wrist") if not _pose_like(t)
    ]
    axes = local_axes(targets)
    local = AxisFields(probe, axes)
    sigma = np.array([next(s for word, s in _SIGMA.items() if word in axis.positive) for axis in axes])
    reference = _to_rest_frame(macros.average(), count)
    skin = np.arange(len(reference)) < count
    samples = np.empty((_SAMPLES, *reference.shape))
    for n in range(_SAMPLES):
        drawn = macros.draw(rng) + local(np.clip(rng.normal(0, sigma), -1, 1))
        aligned = rigid_align(drawn, reference, skin)
        samples[n] = aligned - aligned[count]
    mean = samples.mean(0)
    components, variances = principal_components((samples - mean).reshape(_SAMPLES, -1), NUM_BETAS)
    return mean, components.reshape(NUM_BETAS, *mean.shape).transpose(1, 2, 0), variances


def _pose_like(target: str) -> bool:
    """Targets that shift the hand or spread the fingers belong to pose."""
    return "trans" in target or "distance" in target


def palm_frame(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns forward (wrist to middle knuckle), across (index to pinky) and out of the palm, (3, 3). points: (16+, 3)."""
    forward = points[4] - points[0]
    forward = forward / np.linalg.norm(forward)
    normal = np.cross(forward, points[7] - points[1])
    normal = normal / np.linalg.norm(normal)
    return np.stack([forward, np.cross(normal, forward), normal], 1)


def _to_rest_frame(points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    target = np.array([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]]).T  # forward -x, across -z, palm -y
    turn = target @ palm_frame(points[count:]).T
    return (points - points[count]) @ turn.T


def _flexion_axes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit axes (15, 3): bone direction x palm normal."""
    normal = palm_frame(points)[:, 2]
    tips = [16 + TIPS.index(finger) for finger in FINGERS]
    ends = [points[tips[f] if k == 2 else 3 * f + k + 2] for f in range(5) for k in range(3)]
    axes = np.cross(np.stack(ends) - points[1:16], normal)
    return axes / np.linalg.norm(axes, axis=1, keepdims=True)


def _keypoint_sets(points: NDArray[np.float64], basis: NDArray[np.float64]) -> dict[str, KeypointSet]:
    """`anatomical`: the joints and finger tips.  `mediapipe`: moved by what MediaPipe Hands was measured to mean by them."""
    order = list(MEDIAPIPE_FROM_POINTS)
    palm = float(np.linalg.norm(points[4] - points[0]))
    shift = hand_offsets() * palm @ palm_frame(points).T
    # the offsets are in palm lengths, so they grow with the hand: d palm / d beta along the forward direction
    growth = (points[4] - points[0]) / palm @ (basis[4] - basis[0]) / palm
    sets = {}
    for name, offset in (("anatomical", np.zeros((21, 3))), ("mediapipe", shift)):
        sets[name] = KeypointSet(
            bone=np.array(KEYPOINT_BONES, np.int32),
            template=(points[order] + offset).astype(np.float32),
            shapedirs=(basis[order] + offset[:, :, None] * growth).astype(np.float32),
            vertices=np.zeros((21, 3), np.int32),
            weights=np.zeros((21, 3), np.float32),
        )
    return sets
