"""Fits the free bodies' keypoints to what MediaPipe means by them; writes model/bodies/build/mediapipe_fit.json.

Renders random heads and hands, asks FaceMesh and Hands where their points are, and brings the answers back to the rest pose:
landmarks by the triangle that a landmark's pixel sees (median over pictures, made symmetric, put on the outer skin), hand points as
constant offsets from joints in the palm's frame (robust Gauss-Newton on the reprojection). A third of the pictures is held out.
Run as `python -m benchmarks.model.fit_body_keypoints`, and `handface bodies build` afterwards.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import mediapipe as mp
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.progress import track

from handface.model.bodies import ParametricBody, load_body
from handface.model.bodies.build.hand import palm_frame
from handface.model.bodies.decimate import nearest_on_mesh
from handface.model.bodies.load import DATA
from handface.model.bodies.names import IBUG_MIRROR, KEYPOINT_BONES
from handface.model.bodies.npz import read_arrays
from handface.model.render import (
    DirectionalLight,
    Lighting,
    Material,
    Mesh,
    PerspectiveCamera,
    Texture,
    rasterize,
    render,
)
from handface.model.render.texture import to_srgb

OUTPUT = Path("model/bodies/build/mediapipe_fit.json")
SIZE, FINE = 512, 4  # picture side; pixels are subdivided to read triangles off
# FaceMesh's 468 points that stand for iBUG's 68
FACEMESH_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
)
PARTS = {
    "jaw": slice(0, 17),
    "brow": slice(17, 27),
    "nose": slice(27, 36),
    "eye": slice(36, 48),
    "mouth": slice(48, 68),
}
TONES = ((0.80, 0.56, 0.45), (0.70, 0.46, 0.34), (0.58, 0.36, 0.25), (0.42, 0.24, 0.15), (0.26, 0.14, 0.085))
CURLS = (
    (0, 0, 0, 0, 0),
    (0.25, 0.3, 0.3, 0.3, 0.35),
    (0.1, 0, 0.9, 0.9, 0.9),
    (0.3, 0.8, 0.8, 0.8, 0.8),
    (0.1, 0.1, 0.15, 0.2, 0.25),
)
EXPRESSIONS = (
    {},
    {},
    {"jawOpen": 0.4},
    {"mouthSmileLeft": 0.6, "mouthSmileRight": 0.6},
    {"eyeBlinkLeft": 0.8, "eyeBlinkRight": 0.8},
)


@dataclass(frozen=True)
class Shot:
    """One picture and how it was made. picture: (SIZE, SIZE, 3) uint8.  points: (P, 3) and transforms: (J, 4, 4) in camera axes."""

    picture: NDArray[np.uint8]
    camera: PerspectiveCamera
    points: NDArray[np.float64]
    transforms: NDArray[np.float64]


class Painter:
    """Skin for the bodies' atlas: a tone, darker lips and lids, painted brows, nails."""

    def __init__(self, head: ParametricBody) -> None:
        self.maps = {name: image / 255.0 for name, image in read_arrays(DATA / "skin.npz").items()}
        self.brows = self._bake_brows(head)

    def _bake_brows(self, head: ParametricBody) -> NDArray[np.float64]:
        """Two arcs above the eyes, (H, W) in [0, 1]."""
        from scipy.interpolate import griddata

        arrays, size = head.arrays, self.maps["lips"].shape[0]
        eye = arrays.joint_template[3]
        skin = (head.mask("cavity") + head.mask("eyes")).numpy()[arrays.faces].max(1) == 0
        _, first = np.unique(arrays.face_uv[skin], return_index=True)
        uv, at = arrays.uv[arrays.face_uv[skin].ravel()[first]], arrays.template[arrays.faces[skin].ravel()[first]]
        texel = (np.arange(size) + 0.5) / size
        x, y, z = np.moveaxis(griddata(uv, at, tuple(np.meshgrid(texel, 1 - texel)), fill_value=-1), -1, 0)
        along = np.clip((np.abs(x) - 0.013) / 0.04, 0, 1)
        middle = eye[1] + 0.0165 + 0.0075 * np.sin(along * 2.3) - 0.004 * along**3
        arc = np.exp(-(((y - middle) / (0.0042 * (1 - 0.55 * along))) ** 4))
        brows: NDArray[np.float64] = arc * (np.abs(x) > 0.011) * (np.abs(x) < 0.054) * (z > eye[2])
        return brows

    def __call__(self, rng: np.random.Generator) -> Texture:
        where = rng.uniform(0, len(TONES) - 1)
        low = int(min(where, len(TONES) - 2))
        tone = np.array(TONES[low]) * (1 - where + low) + np.array(TONES[low + 1]) * (where - low)
        skin = tone * np.exp(rng.normal(0, 0.03, (*self.brows.shape, 1)) + 3 * (self.maps["detail"] - 0.3)[..., None])
        layers = (
            (self.maps["lips"] * 0.85, tone * [0.92, 0.5, 0.52]),
            (self.maps["eyelids"] * 0.35, tone * [0.7, 0.52, 0.5]),
        )
        layers += (
            (self.maps["mouth_inside"], np.array([0.35, 0.08, 0.07])),
            (self.maps["nails"] * 0.6, tone * [1.15, 0.9, 0.9]),
        )
        for mask, colour in (*layers, (self.brows * 0.9, np.array([0.035, 0.02, 0.012]))):
            skin = skin * (1 - mask[..., None]) + colour * mask[..., None]
        return Texture(skin.clip(0.004, 1).astype(np.float32))


def eye_mesh(head: ParametricBody, vertices: NDArray[np.float32]) -> Mesh:
    """Eyeballs with an iris, mapped by the angle from the gaze."""
    arrays = head.arrays
    ball = arrays.masks["eyes"][arrays.faces].min(1) > 0
    uv = np.zeros((len(arrays.template), 2), np.float32)
    for joint in (3, 4):
        offset = arrays.template - arrays.joint_template[joint]
        near = (arrays.masks["eyes"] > 0) & (np.linalg.norm(offset, axis=1) < 0.03)
        unit = offset[near] / np.linalg.norm(offset[near], axis=1, keepdims=True)
        angle = np.arccos(unit[:, 2].clip(-1, 1)) / np.pi
        flat = unit[:, :2] / np.maximum(np.linalg.norm(unit[:, :2], axis=1, keepdims=True), 1e-9)
        uv[near] = 0.5 + 0.5 * angle[:, None] * flat
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    degrees = 180 * np.hypot(x, y)[..., None]
    iris = np.where(degrees < 10.5, 0.004, np.array([0.12, 0.07, 0.04]))
    texture = Texture(np.where(degrees < 27.5, iris, np.array([0.62, 0.58, 0.55])).astype(np.float32))
    return Mesh(vertices, arrays.faces[ball].astype(np.int64), Material(texture, 1.0, 0.0), uv, None)


def shoot(
    body: ParametricBody,
    painter: Painter,
    rng: np.random.Generator,
    distance: float,
    focal: float,
    **inputs: torch.Tensor,
) -> Shot:
    """Pose, place the body's middle before the camera, light and draw it."""
    output = body(**inputs)
    vertices = output.vertices[0].numpy()
    move = np.array([0, 0, distance]) - (vertices.max(0) + vertices.min(0)) / 2
    vertices, transforms = vertices + move, output.transforms[0].numpy().copy()
    transforms[:, :3, 3] += move
    arrays, drawn = body.arrays, vertices.astype(np.float32)
    ball = arrays.masks.get("eyes", np.zeros(len(vertices)))[arrays.faces].min(1) > 0
    material = Material(painter(rng))
    meshes = [
        Mesh(drawn, arrays.faces[~ball].astype(np.int64), material, arrays.uv, arrays.face_uv[~ball].astype(np.int64))
    ]
    if ball.any():
        meshes.append(eye_mesh(body, drawn))
    camera = PerspectiveCamera.from_focal(focal, SIZE, SIZE)
    key = DirectionalLight(
        (rng.uniform(-0.7, 0.7), rng.uniform(-0.9, -0.2), -0.8), (1, 0.96, 0.9), rng.uniform(0.7, 1.1)
    )
    backdrop = np.full((SIZE, SIZE, 3), rng.uniform(0.1, 0.6, 3), np.float32)
    colour = render(meshes, camera, Lighting(lights=(key, Lighting().lights[1])), backdrop).colour
    return Shot(to_srgb(colour), camera, vertices, transforms)


def turned(yaw: float, pitch: float) -> torch.Tensor:
    """global_orient (1, 3) that faces the camera (y down, z forward), turned by degrees."""
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_euler("yx", [yaw, pitch], degrees=True) * Rotation.from_rotvec([np.pi, 0, 0])
    return torch.from_numpy(rotation.as_rotvec()[None])


def detect(solution: object, shots: list[Shot], result: str) -> list[NDArray[np.float64] | None]:
    """Pixels (N, 2) of the first detection in each picture, None where there is none."""
    found: list[NDArray[np.float64] | None] = []
    for shot in shots:
        answer = getattr(solution.process(shot.picture), result)  # type: ignore[attr-defined]
        points = None if answer is None else np.array([(p.x, p.y) for p in answer[0].landmark]) * SIZE - 0.5
        found.append(points)
    return found


def fit_landmarks(
    head: ParametricBody, shots: list[Shot], pixels: list[NDArray[np.float64] | None]
) -> dict[str, object]:
    """Corner vertices of the head and weights of the 68 landmarks, and the errors on held-out pictures."""
    arrays = head.arrays
    template, faces = arrays.template.astype(np.float64), arrays.faces.astype(np.int64)
    rest = []
    used = [index for index, found in enumerate(pixels) if found is not None]
    train, held = [i for i in used if i % 3], [i for i in used if i % 3 == 0]
    for index in track(train, "landmarks"):
        buffers = rasterize(
            shots[index].points.astype(np.float32), faces, shots[index].camera.supersampled(FINE), cull=True
        )
        row, column = np.nonzero(buffers.face >= 0)
        at = (pixels[index][list(FACEMESH_68)] + 0.5) * FINE - 0.5
        nearest = ((at[:, None] - np.stack([column, row], 1)[None, ::3]) ** 2).sum(-1).argmin(1) * 3
        seen, weights = buffers.face[row[nearest], column[nearest]], buffers.barycentric[row[nearest], column[nearest]]
        rest.append((template[faces[seen]] * weights[..., None]).sum(1))
    middle = np.median(rest, 0)
    symmetric = (middle + middle[list(IBUG_MIRROR)] * [-1, 1, 1]) / 2
    inner = np.maximum(arrays.masks["eyes"], arrays.masks["cavity"]) > 0
    outer = faces[~inner[faces].any(1)]
    corners, weights = nearest_on_mesh(symmetric, template, outer)
    spread = {
        part: 1000 * float(np.median(np.linalg.norm(np.array(rest) - middle, axis=2)[:, s]))
        for part, s in PARTS.items()
    }
    errors = {}
    for name, indices in (("train", train), ("held_out", held)):
        error = []
        for index in indices:
            shot = shots[index]
            pixel = shot.camera.project((shot.points[corners] * weights[..., None]).sum(1))
            error.append(
                100
                * np.linalg.norm(pixel - pixels[index][list(FACEMESH_68)], axis=1)
                / np.linalg.norm(pixel[36] - pixel[45])
            )
        errors[name] = {"all": np.mean(error)} | {part: np.mean(np.array(error)[:, s]) for part, s in PARTS.items()}
    return {
        "vertices": corners,
        "weights": weights,
        "error_percent_of_eye_distance": errors,
        "spread_mm": spread,
        "pictures": len(used),
    }


def fit_hand(
    hand: ParametricBody, betas: list[torch.Tensor], shots: list[Shot], pixels: list[NDArray[np.float64] | None]
) -> dict[str, object]:
    """Offsets (21, 3) in palm lengths and the error before and after on held-out pictures, in percent of the palm's length."""
    rest = [hand(betas=beta) for beta in betas]
    used = [index for index, found in enumerate(pixels) if found is not None]
    train, held = [i for i in used if i % 3], [i for i in used if i % 3 == 0]
    bones = list(KEYPOINT_BONES)

    def project(index: int, offsets: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (21, 2) and their derivative by the offsets (21, 2, 3)."""
        joints = rest[index].joints[0].numpy()
        frame = palm_frame(joints) * np.linalg.norm(joints[4] - joints[0])
        place = rest[index].keypoints[0].numpy() + offsets @ frame.T
        bone = shots[index].transforms[bones]
        x, y, z = (np.einsum("kij,kj->ki", bone[:, :3, :3], place) + bone[:, :3, 3]).T
        focal = shots[index].camera.intrinsics[0, 0]
        by_point = np.zeros((21, 2, 3))
        by_point[:, 0, 0] = by_point[:, 1, 1] = focal / z
        by_point[:, 0, 2], by_point[:, 1, 2] = -focal * x / z**2, -focal * y / z**2
        return shots[index].camera.project(np.stack([x, y, z], 1)), by_point @ bone[:, :3, :3] @ frame

    offsets = np.zeros((21, 3))
    for _ in range(4):
        normal, right = np.tile(900.0 * np.eye(3), (21, 1, 1)), -900.0 * offsets  # a weak pull to zero
        for index in train:
            pixel, slope = project(index, offsets)
            residual = pixels[index] - pixel
            weight = 1 / (1 + np.linalg.norm(residual, axis=1) / 8) ** 2
            normal += np.einsum("k,kij,kil->kjl", weight, slope, slope)
            right += np.einsum("k,kij,ki->kj", weight, slope, residual)
        offsets += np.linalg.solve(normal, right[..., None])[..., 0]
    errors = {}
    for name, value in (("before", np.zeros((21, 3))), ("after", offsets)):
        error = np.array(
            [
                np.linalg.norm(project(i, value)[0] - pixels[i], axis=1) / np.linalg.norm(pixels[i][9] - pixels[i][0])
                for i in held
            ]
        )
        errors[name] = {
            "all": 100 * error.mean(),
            "wrist": 100 * error[:, 0].mean(),
            "tips": 100 * error[:, 4::4].mean(),
        }
    return {"offsets": offsets, "held_out_error_percent_of_palm": errors, "pictures": len(used)}


def hand_orient(rng: np.random.Generator, palm_to_camera: bool) -> torch.Tensor:
    """global_orient (1, 3): fingers up, palm or back to the camera, turned by some 20 degrees about each axis."""
    from scipy.spatial.transform import Rotation

    away = 1.0 if palm_to_camera else -1.0  # rest frame: fingers -x, palm -y, thumb +z
    upright = Rotation.from_matrix(np.array([[0, 1, 0], [0, 0, away], [away, 0, 0]]).T)
    jitter = Rotation.from_euler("zyx", rng.normal(0, 18, 3), degrees=True)
    return torch.from_numpy((jitter * upright).as_rotvec()[None])


def save(folder: Path, *results: tuple[str, list[Shot], list[NDArray[np.float64] | None]]) -> None:
    """Pictures with what MediaPipe found (green), as <name>-<index>.png."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    for name, shots, pixels in results:
        for index, (shot, found) in enumerate(zip(shots, pixels, strict=True)):
            picture = shot.picture[..., ::-1].copy()
            for x, y in [] if found is None else found:
                cv2.circle(picture, (round(x), round(y)), 2, (0, 255, 0), -1)
            cv2.imwrite(str(folder / f"{name}-{index:03d}.png"), picture)


def plain(value: NDArray[np.generic] | np.generic) -> object:
    """Numbers for JSON, rounded to what they are worth."""
    return np.round(value, 5).tolist()


def main(heads: int = 48, hands: int = 75, seed: int = 0, save_pictures: Path | None = None) -> None:
    """Render, detect, fit, write. heads, hands: pictures of each; save_pictures: folder for a look at them."""
    head = load_body("free-head", dtype=torch.float64)
    hand = load_body("free-hand", dtype=torch.float64)
    painter, shots_head, shots_hand, betas_hand = Painter(head), [], [], []
    names = head.arrays.expression_names
    for index in track(range(heads), "heads"):
        rng = np.random.default_rng([seed, index])
        expression = torch.zeros(1, len(names), dtype=torch.float64)
        for name, value in EXPRESSIONS[index % len(EXPRESSIONS)].items() if index % 3 == 0 else ():
            expression[0, names.index(name)] = value
        orient = turned((0, 0, -14, 14)[index % 4] + rng.normal(0, 2), (0, 5, -5)[index % 3])
        betas = torch.from_numpy(rng.normal(0, 0.7, (1, 30)))
        shots_head.append(
            shoot(head, painter, rng, 1.2, 1500, betas=betas, expression=expression, global_orient=orient)
        )
    with mp.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=1, min_detection_confidence=0.5
    ) as solution:
        pixels_head = detect(solution, shots_head, "multi_face_landmarks")
    for index in track(range(hands), "hands"):
        rng = np.random.default_rng([seed, 1, index])
        curl = np.array(CURLS[index % len(CURLS)])[[1, 2, 4, 3, 0]]  # thumb first -> the body's order
        angle = np.clip(np.repeat(curl, 3) * np.tile([1.0, 1.2, 0.7], 5) + rng.normal(0, 0.08, 15), -0.2, 1.6)
        angle[12:] *= 0.4  # the thumb
        pose = torch.from_numpy((hand.arrays.flexion_axes * angle[:, None]).reshape(1, 45))
        betas_hand.append(torch.from_numpy(rng.normal(0, 0.8, (1, 10))))
        orient = hand_orient(rng, palm_to_camera=index % 2 == 0)
        shots_hand.append(shoot(hand, painter, rng, 0.7, 1200, betas=betas_hand[-1], pose=pose, global_orient=orient))
    with mp.solutions.hands.Hands(static_image_mode=True, max_num_hands=1, min_detection_confidence=0.5) as solution:
        pixels_hand = detect(solution, shots_hand, "multi_hand_landmarks")
    fitted = {
        "landmarks": fit_landmarks(head, shots_head, pixels_head),
        "hand": fit_hand(hand, betas_hand, shots_hand, pixels_hand),
    }
    fitted["mediapipe"], fitted["seed"] = mp.__version__, seed  # type: ignore[assignment]
    if save_pictures:
        save(save_pictures, ("head", shots_head, pixels_head), ("hand", shots_hand, pixels_hand))
    OUTPUT.write_text(json.dumps(fitted, default=plain, indent=1) + "\n")
    shown = {
        part: {k: v for k, v in fitted[part].items() if k not in ("vertices", "weights", "offsets")}
        for part in ("landmarks", "hand")
    }
    print(json.dumps(shown, default=plain, indent=1))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    tyro.cli(main)
