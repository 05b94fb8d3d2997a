"""The whole fit on bodies that come out of files in MANO's and FLAME's formats: both hands of a person, flesh, contact, quality."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.model.bodies import load_body
from handface.model.bodies.names import IBUG_MIRROR
from handface.model.bodies.npz import save_body
from handface.model.bodies.readers import read_flame, read_mano
from handface.model.fitting.distance import FitSurface
from handface.model.fitting.flesh import closed_faces
from handface.model.fitting.keypoints import _named, fit_keypoints
from handface.model.fitting.people import FitPicture, PeopleFitter
from handface.model.prediction.prediction import Detection, Person
from tests.model.bodies.gated_files import free_hand_as_mano, free_head_as_flame
from tests.model.fitting.scenes import SIZE, labels

NUMBER = 1  # a scene whose hand is a left one
FLIP = np.array([-1, 1, 1], np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """MANO's and FLAME's files, imported."""
    folder: Path = tmp_path_factory.mktemp("gated")
    flame, embedding = free_head_as_flame()
    (folder / "MANO_RIGHT.pkl").write_bytes(pickle.dumps(free_hand_as_mano(False), 2))
    (folder / "flame2023.pkl").write_bytes(pickle.dumps(flame, 2))
    np.savez(folder / "landmarks.npz", **embedding)
    save_body(folder / "hand.npz", read_mano(folder / "MANO_RIGHT.pkl"))
    save_body(folder / "head.npz", read_flame(folder / "flame2023.pkl", folder / "landmarks.npz"))
    return str(folder / "hand.npz"), str(folder / "head.npz")


def seen(files: tuple[str, str]) -> Detection:
    """A left hand at a face, posed and placed as in a scene, with its points in metres."""
    truth = labels(NUMBER)
    points = {}
    for kind, file in zip(("hand", "head"), files, strict=True):
        body = load_body(file, "smplx", side="left" if kind == "hand" else "right")
        names = ("betas", "pose", "global_orient", *(("expression",) if kind == "head" else ()))
        given = {name: torch.tensor(np.array(getattr(truth, f"{kind}_{name}"))).reshape(1, -1) for name in names}
        if kind == "head":
            given["expression"] = given["expression"][:, : body.arrays.num_expressions]
        free = load_body(f"free-{kind}", "free", side="left" if kind == "hand" else "right")
        whole = {name: torch.tensor(np.array(getattr(truth, f"{kind}_{name}"))).reshape(1, -1) for name in names}
        there = free(**whole, transl=torch.tensor(np.array(getattr(truth, f"{kind}_transl"))).reshape(1, 3))
        out = body(**given)
        points[kind] = (out.keypoints[0] + there.vertices[0].mean(0) - out.vertices[0].mean(0)).numpy()
    pixels = [points[kind] @ truth.camera_intrinsics.T for kind in ("head", "hand")]
    face, hand = (np.concatenate([p[:, :2] / p[:, 2:], np.ones_like(p[:, :1])], 1).astype(np.float32) for p in pixels)
    return Detection(face, hand, "left", 0.9, hand_world=points["hand"].astype(np.float32))


@pytest.fixture(scope="module")
def hands(files: tuple[str, str]) -> list[Person]:
    """A left hand at a face, and the right hand at the same face's mirror image."""
    left = seen(files)
    assert left.hand_world is not None
    face, hand = (points * FLIP + [SIZE - 1, 0, 0] for points in (left.face[list(IBUG_MIRROR)], left.hand))
    right = Detection(face.astype(np.float32), hand.astype(np.float32), "right", 0.9, hand_world=left.hand_world * FLIP)
    focal = float(labels(NUMBER).camera_intrinsics[0, 0])
    return fit_keypoints([right, left], [FitPicture(SIZE, SIZE, focal)] * 2, *files)


def test_both_hands_lie_on_their_points(hands: list[Person]) -> None:
    assert [person.side for person in hands] == ["right", "left"]
    for person in hands:
        assert person.fit.fitted and person.fit.quality > 0.6, person.fit
        assert person.fit.residuals[17:68].mean() < 0.02 and person.fit.residuals[68:].mean() < 0.04
    np.testing.assert_allclose(hands[1].hand.vertices, hands[0].hand.vertices * FLIP, atol=3e-3)


def test_the_skin_yields_and_contact_is_where_they_meet(hands: list[Person], files: tuple[str, str]) -> None:
    faces = closed_faces(load_body(files[1], "smplx").arrays)
    for person in hands:
        surface = FitSurface(person.head.vertices, person.head.faces if person.side == "left" else faces)
        depth = surface.signed_distance(person.hand.vertices)
        assert depth.min() > -0.005 and np.abs(depth).min() < 0.005
        assert (person.hand.contact > 0.5).any() and (person.head.contact > 0.5).any()
        assert np.isfinite(person.head.deformation).all()


def test_parameters_pose_the_right_hand_and_its_head(hands: list[Person]) -> None:
    for part in (hands[0].hand, hands[0].head):
        body = load_body(part.body, part.convention)
        out = body(**{name: torch.from_numpy(value)[None] for name, value in part.parameters.items()})
        np.testing.assert_allclose(out.vertices[0], part.vertices + part.deformation, atol=2e-4)


@pytest.mark.parametrize("spoilt", ["random", "nan"])
def test_a_guess_that_knows_nothing_is_bettered_or_kept_with_a_reason(
    hands: list[Person], files: tuple[str, str], spoilt: str
) -> None:
    """As of a network with random weights."""
    rng = np.random.default_rng(3)

    def spoil(value: np.ndarray) -> np.ndarray:
        drawn = rng.normal(0, 2, value.shape) if spoilt == "random" else np.full(value.shape, np.nan)
        return drawn.astype(np.float32)

    person = hands[0]
    parts = {
        name: replace(part, parameters={key: spoil(value) for key, value in part.parameters.items()})
        for name, part in (("hand", person.hand), ("head", person.head))
    }
    guess = replace(person, **parts, fit=None)
    fitter = PeopleFitter(_named("hand", files[0], None), _named("head", files[1], None))
    (again,) = fitter.fit([guess], [FitPicture(SIZE, SIZE)])
    assert np.isfinite(again.hand.vertices).all() and np.isfinite(again.head.vertices).all()
    assert again.fit.fitted or again.fit.reason
