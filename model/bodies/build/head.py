"""The free head: 5 joints in FLAME's order, 100 shape coefficients, 51 named expressions, 68 landmarks, eyeballs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.arrays import BodyArrays, KeypointSet, MirrorMap
from handface.model.bodies.build.fit import landmark_keypoints
from handface.model.bodies.build.region import SurfaceRegion, boundary_loops, cut, fan, merged_weights, skin_quads
from handface.model.bodies.build.regions_soft import soft_masks
from handface.model.bodies.build.shapes import (
    Axis,
    AxisFields,
    Macros,
    Probe,
    local_axes,
    principal_components,
    rigid_align,
)
from handface.model.bodies.build.stiffness import head_stiffness
from handface.model.bodies.build.wheel import HumanData
from handface.model.bodies.decimate import build_levels
from handface.model.bodies.names import HEAD_JOINTS, HEAD_MIRROR_JOINTS, HEAD_PARENTS, IBUG_MIRROR

NUM_BETAS = 100
_FLIP = np.array([-1.0, 1.0, 1.0])
_CUBES = ("joint-neck", "joint-head", "joint-mouth", "joint-l-eye", "joint-r-eye")
_JAW_BONES = ["jaw", "special04", "oris02", "oris01", "oris06.L", "oris07.L", "oris06.R", "oris07.R"]
_ROOT_BONES = [
    "neck01",
    "neck02",
    "neck03",
    "spine01",
    "spine02",
    "clavicle.L",
    "clavicle.R",
    "shoulder01.L",
    "shoulder01.R",
]
_LOCAL = ("head/", "forehead/", "eyebrows/", "eyes/", "nose/", "mouth/", "ears/", "chin/", "cheek/")
_LOCAL_NECK = ("neck/neck-double", "neck/neck-scale-h", "neck/neck-scale-d", "asym/asym-")
_LEFT_OUT = ("head-trans", "head-age", "head-angle")  # pose, and what the macro targets already do
_SAMPLES, _SEED = 1200, 0
_SIGMA, _SIGMA_ASYMMETRY, _SIGMA_TWINS = 0.25, 0.12, 0.05
_LEVELS = (1675, 559)
_TEXTURES = {
    "lips": "mpfb_lips.jpg",
    "eyelids": "mpfb_eyelids.jpg",
    "ears": "mpfb_ears.jpg",
    "face": "mpfb_face.jpg",
    "mouth_inside": "mpfb_inside-mouth.jpg",
}


def head_quads(human: HumanData) -> NDArray[np.bool_]:
    """(Q,) quads of the head: skin down to the upper neck, eye and mouth cavities, eyeballs."""
    skin = skin_quads(human, ("head", "eye_cavity.R", "eye_cavity.L", "mouth_cavity"))
    return skin | np.isin(human.group, ("helper-l-eye", "helper-r-eye"))


def build_head(human: HumanData) -> BodyArrays:
    """Measure, sample and sum up the head; y up, face to +z, the mean of the template's vertices at 0."""
    region = cut(human, head_quads(human))
    count = len(region.vertex_ids)
    vertex_mirror = region.local(human.mirror[region.vertex_ids])
    point_mirror = np.concatenate([vertex_mirror, count + np.array(HEAD_MIRROR_JOINTS)])
    weights = _weights(human, region)
    weights = (weights + weights[vertex_mirror][:, HEAD_MIRROR_JOINTS]) / 2
    mean, basis, variances, signs = _shape_space(Probe(human, region, _CUBES), point_mirror, weights[:, 1] > 0.5)
    mean = _symmetric(mean - mean[:count].mean(0), point_mirror)
    template = mean[:count]
    names = [name for name in human.expression_units() if name != "tongueOut"]
    swap = np.array([names.index(_other_side(name)) for name in names])
    expressions = np.stack([human.displacement(name)[region.vertex_ids] for name in names], -1)
    expressions = (expressions + expressions[vertex_mirror][:, :, swap] * _FLIP[:, None]) / 2
    rings = {"neck": boundary_loops(region.faces)[0]}
    masks = _masks(human, region, weights)
    return BodyArrays(
        kind="head",
        template=template.astype(np.float32),
        faces=region.faces.astype(np.int32),
        shapedirs=basis[:count].astype(np.float16),
        weights=weights.astype(np.float32),
        parents=np.array(HEAD_PARENTS, np.int32),
        joint_names=HEAD_JOINTS,
        joint_template=mean[count:].astype(np.float32),
        joint_shapedirs=basis[count:].astype(np.float32),
        keypoint_sets={"ibug68": _landmarks(vertex_mirror)},
        expressiondirs=expressions.astype(np.float16),
        joint_expressiondirs=np.zeros((5, 3, len(names)), np.float32),
        posedirs=np.zeros((count, 3, 0), np.float16),
        expression_names=tuple(names),
        uv=region.uv.astype(np.float32),
        face_uv=region.face_uv.astype(np.int32),
        stiffness=head_stiffness(human, region, template, expressions, names, vertex_mirror).astype(np.float32),
        mirror=MirrorMap(
            vertices=vertex_mirror.astype(np.int32),
            joints=np.array(HEAD_MIRROR_JOINTS, np.int32),
            keypoints=np.array(IBUG_MIRROR, np.int32),
            expression=swap.astype(np.int32),
            betas=signs.astype(np.float32),
        ),
        masks=masks,
        rings={name: ring.astype(np.int32) for name, ring in rings.items()},
        caps=np.concatenate([fan(ring) for ring in rings.values()]),
        levels=build_levels(template, region.faces, _LEVELS),
        provenance={"shape_variance_m2": [float(f"{v:.4g}") for v in variances], "samples": _SAMPLES, "seed": _SEED},
    )


def _weights(human: HumanData, region: SurfaceRegion) -> NDArray[np.float64]:
    """(V, 5): neck bones -> root, lower mouth and tongue -> jaw, the eyes, every other bone -> neck (the skull)."""
    jaw = _JAW_BONES + [bone for bone in human.bone_weights if bone.startswith("tongue")]
    taken = {*jaw, *_ROOT_BONES, "eye.L", "eye.R"}
    skull = [bone for bone in human.bone_weights if bone not in taken]
    return merged_weights(human, region, [_ROOT_BONES, skull, jaw, ["eye.L"], ["eye.R"]])


def _shape_space(
    probe: Probe, mirror: NDArray[np.int64], skull: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean points (P, 3), basis (P, 3, S), variances (S,) and mirror signs (S,) of random heads aligned on the skull.

    Every sample counts together with its mirror image. The covariance then commutes with mirroring, so that each component is
    symmetric (sign +1) or antisymmetric (-1) and a mirrored head is the same head with some coefficients negated.
    """
    rng = np.random.default_rng(_SEED)
    macros = Macros(probe)
    targets = [
        t
        for prefix in _LOCAL + _LOCAL_NECK
        for t in probe.human.targets(prefix)
        if not any(word in t for word in _LEFT_OUT)
    ]
    axes = local_axes(targets)
    local, draw = AxisFields(probe, axes), _LocalDraw(axes)
    average = macros.average()
    reference = _symmetric(average, mirror)
    used = np.concatenate([skull, np.zeros(len(_CUBES), bool)])
    samples = np.stack([rigid_align(macros.draw(rng) + local(draw(rng)), reference, used) for _ in range(_SAMPLES)])
    mirrored = samples[:, mirror] * _FLIP
    symmetric, antisymmetric = (samples + mirrored) / 2, (samples - mirrored) / 2
    mean = symmetric.mean(0)
    halves = [principal_components(x.reshape(_SAMPLES, -1), NUM_BETAS) for x in (symmetric - mean, antisymmetric)]
    components, variances = (np.concatenate(parts) for parts in zip(*halves, strict=True))
    order = np.argsort(-variances)[:NUM_BETAS]
    signs = np.where(order < NUM_BETAS, 1.0, -1.0)
    basis = components[order].reshape(NUM_BETAS, *mean.shape)
    basis = (
        basis + signs[:, None, None] * basis[:, mirror] * _FLIP
    ) / 2  # exact to the last bit, so that rounding keeps it
    return mean, basis.transpose(1, 2, 0), variances[order], signs


def _symmetric(points: NDArray[np.float64], mirror: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of (P, 3) points and their mirror image."""
    return (points + points[mirror] * _FLIP) / 2


class _LocalDraw:
    """Random strengths of the local axes; left and right twins get the same value and a little jitter."""

    def __init__(self, axes: list[Axis]) -> None:
        names = [axis.positive.replace("/l-", "/X-").replace("/r-", "/X-") for axis in axes]
        keys = list(dict.fromkeys(names))
        self.group = np.array([keys.index(name) for name in names])
        self.sigma = np.array([_SIGMA_ASYMMETRY if key.startswith("asym/") else _SIGMA for key in keys])
        self.jitter = _SIGMA_TWINS * (np.bincount(self.group)[self.group] > 1)

    def __call__(self, rng: np.random.Generator) -> NDArray[np.float64]:
        return np.clip(rng.normal(0, self.sigma)[self.group] + rng.normal(0, 1, len(self.group)) * self.jitter, -1, 1)


def _masks(human: HumanData, region: SurfaceRegion, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """`neck` by skinning, `eyes` (balls), `cavity` (inside of mouth and lids), and the soft regions of the skin."""
    outer = skin_quads(human, ("head",))[region.quad_ids]
    eyes = np.isin(human.group[region.quad_ids], ("helper-l-eye", "helper-r-eye"))
    corners = region.faces.reshape(-1, 6)
    on_skin, on_eyes = (np.isin(np.arange(len(region.vertex_ids)), corners[mask]) for mask in (outer, eyes))
    masks = {name: mask * on_skin.astype(np.float32) for name, mask in soft_masks(human, region, _TEXTURES).items()}
    masks["mouth_inside"] = soft_masks(human, region, {"mouth_inside": _TEXTURES["mouth_inside"]})["mouth_inside"]
    others = {"neck": weights[:, 0].round(3), "eyes": on_eyes, "cavity": ~on_skin & ~on_eyes}
    return masks | {name: mask.astype(np.float32) for name, mask in others.items()}


def _landmarks(mirror: NDArray[np.int64]) -> KeypointSet:
    """The fitted landmarks, those on the left replaced by the mirror image of those on the right. mirror: (V,)."""
    corners, weights = landmark_keypoints()
    for point, opposite in enumerate(IBUG_MIRROR):
        if point == opposite:  # on the midline: only midline vertices may carry it
            weights[point] *= mirror[corners[point]] == corners[point]
        elif point < opposite:
            corners[opposite], weights[opposite] = mirror[corners[point]], weights[point]
    count = len(corners)
    return KeypointSet(
        bone=np.full(count, -1, np.int32),
        template=np.zeros((count, 3), np.float32),
        shapedirs=np.zeros((count, 3, NUM_BETAS), np.float32),
        vertices=corners.astype(np.int32),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
    )


def _other_side(name: str) -> str:
    """mouthLeft <-> mouthRight, eyeBlinkLeft <-> eyeBlinkRight; others unchanged."""
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name
