"""MANO and FLAME files: read without chumpy, posed as smplx poses them, refused with file and key when something is wrong."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import smplx.lbs
import torch

from handface.jobs.cli import main as cli
from handface.model.bodies import DECAF, FREIHAND, BodyFileError, Convention, ParametricBody, load_body
from handface.model.bodies.npz import save_body
from handface.model.bodies.readers import read_flame, read_mano
from tests.model.bodies.gated_files import free_hand_as_mano


def smplx_vertices(model: dict[str, Any], shapedirs: np.ndarray, betas: torch.Tensor, pose: torch.Tensor) -> tuple:
    """smplx's own skinning on the same arrays; pose: (B, 3 J) with the root."""
    tensors = {
        key: torch.from_numpy(np.asarray(model[key], np.float64)) for key in ("v_template", "J_regressor", "weights")
    }
    posedirs = torch.from_numpy(model["posedirs"]).reshape(-1, model["posedirs"].shape[2]).T
    parents = torch.from_numpy(model["kintree_table"][0].astype(np.int64))
    parents[0] = -1
    return smplx.lbs.lbs(
        betas,
        pose,
        tensors["v_template"],
        torch.from_numpy(shapedirs),
        posedirs,
        tensors["J_regressor"],
        parents,
        tensors["weights"],
    )


def random(*shape: int, scale: float = 0.5, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mano_poses_as_smplx_does(mano_pkl: Path, mano_arrays: dict) -> None:
    body = ParametricBody(read_mano(mano_pkl), dtype=torch.float64)
    betas, pose, orient, transl = random(3, 10), random(3, 45, seed=1), random(3, 3, seed=2), random(3, 3, seed=3)
    output = body(betas, pose, orient, transl)
    vertices, joints = smplx_vertices(mano_arrays, mano_arrays["shapedirs"], betas, torch.cat([orient, pose], 1))
    assert (output.vertices - vertices - transl[:, None]).abs().max() < 1e-6
    assert (output.joints - joints - transl[:, None]).abs().max() < 1e-6


def test_flame_poses_as_smplx_does_and_expressions_start_at_300(
    flame_pkl: Path, landmark_npy: Path, flame_arrays: dict
) -> None:
    body = ParametricBody(read_flame(flame_pkl, landmark_npy), dtype=torch.float64)
    betas, expression, pose, orient = random(2, 100), random(2, 50, seed=1), random(2, 12, seed=2), random(2, 3, seed=3)
    used = np.concatenate([flame_arrays["shapedirs"][:, :, :100], flame_arrays["shapedirs"][:, :, 300:350]], 2)
    vertices, joints = smplx_vertices(
        flame_arrays, used, torch.cat([betas, expression], 1), torch.cat([orient, pose], 1)
    )
    output = body(betas, pose, orient, expression=expression)
    assert (output.vertices - vertices).abs().max() < 1e-6
    assert (output.joints - joints).abs().max() < 1e-6


def test_decaf_flame_turns_about_the_centroid(
    flame_pkl: Path, landmark_npy: Path, flame_arrays: dict, landmark_arrays: Any
) -> None:
    """v = R (v0 - c) + c + transl on top of FLAME posed by pose_params = [root, jaw]; landmarks on the result."""
    body = ParametricBody(read_flame(flame_pkl, landmark_npy), DECAF["head"], torch.float64)
    betas, params, orient, transl = random(2, 100), random(2, 6, seed=1), random(2, 3, seed=2), random(2, 3, seed=3)
    before = params.clone()
    output = body(betas, params, orient, transl)
    full = torch.cat([params[:, :3], torch.zeros(2, 3), params[:, 3:], torch.zeros(2, 6)], 1)
    canonical, _ = smplx_vertices(flame_arrays, flame_arrays["shapedirs"][:, :, :100], betas, full)
    centre = canonical.mean(1, keepdim=True)
    turn = smplx.lbs.batch_rodrigues(orient)
    expected = (canonical - centre) @ turn.mT + centre + transl[:, None]
    assert (output.vertices - expected).abs().max() < 1e-6
    corners = torch.from_numpy(flame_arrays["f"][landmark_arrays.faces[0]].astype(np.int64))
    landmarks = (expected[:, corners] * torch.from_numpy(landmark_arrays.weights[0])[..., None]).sum(2)
    assert (output.keypoints - landmarks).abs().max() < 1e-6
    assert torch.equal(params, before), "the caller's tensor stays as it was"
    rigid = output.rigid[:, :3, :3] @ centre.mT + output.rigid[:, :3, 3:]
    assert torch.allclose(rigid[..., 0], centre[:, 0] + transl)


def test_mano_conventions(mano_pkl: Path, mano_arrays: dict) -> None:
    arrays = read_mano(mano_pkl)
    flat = ParametricBody(arrays, dtype=torch.float64)
    pose = random(2, 45)
    mean = torch.from_numpy(mano_arrays["hands_mean"])
    relative = ParametricBody(arrays, FREIHAND, torch.float64)
    assert torch.allclose(relative(pose=pose).vertices, flat(pose=pose + mean).vertices)
    components = torch.from_numpy(mano_arrays["hands_components"])
    weighed = ParametricBody(arrays, Convention(pose_pca=6, flat_mean=False), torch.float64)
    assert weighed.num_pose == 6
    assert torch.allclose(weighed(pose=pose[:, :6]).vertices, flat(pose=pose[:, :6] @ components[:6] + mean).vertices)
    with pytest.raises(ValueError, match="holds 45 pose components"):
        ParametricBody(arrays, Convention(pose_pca=46))


def test_mano_tips_are_vertices_and_decaf_shortens_them(mano_pkl: Path) -> None:
    arrays, pose = read_mano(mano_pkl), random(2, 45)
    whole, decaf = (ParametricBody(arrays, c, torch.float64)(pose=pose) for c in (Convention(), DECAF["hand"]))
    for keypoint, (vertex, joint) in {4: (744, 15), 8: (320, 3), 12: (443, 6), 16: (554, 12), 20: (671, 9)}.items():
        assert torch.allclose(whole.keypoints[:, keypoint], whole.vertices[:, vertex])
        tip = whole.joints[:, joint] + 0.7 * (whole.vertices[:, vertex] - whole.joints[:, joint])
        assert torch.allclose(decaf.keypoints[:, keypoint], tip)
    assert torch.equal(whole.vertices, decaf.vertices)
    metro = ParametricBody(arrays, Convention(keypoints="metro"), torch.float64)(pose=pose)
    assert torch.allclose(metro.keypoints[:, 12], metro.vertices[:, 445])
    assert torch.allclose(metro.keypoints[:, 5], metro.joints[:, 1]), "index knuckle"


def test_npz_forms_give_the_same_body(
    tmp_path: Path,
    mano_pkl: Path,
    mano_arrays: dict,
    flame_pkl: Path,
    landmark_npy: Path,
    flame_arrays: dict,
    landmark_arrays: Any,
) -> None:
    np.savez(tmp_path / "mano.npz", **mano_arrays)
    np.savez(tmp_path / "flame.npz", **flame_arrays)
    named = {"full_lmk_faces_idx": landmark_arrays.faces, "full_lmk_bary_coords": landmark_arrays.weights}
    np.savez(tmp_path / "landmarks.npz", **named)
    pairs = [(read_mano(mano_pkl), read_mano(tmp_path / "mano.npz"))]
    pairs += [(read_flame(flame_pkl, landmark_npy), read_flame(tmp_path / "flame.npz", tmp_path / "landmarks.npz"))]
    for pickled, zipped in pairs:
        for key in ("template", "shapedirs", "posedirs", "joint_template", "weights", "faces"):
            assert np.allclose(getattr(pickled, key), getattr(zipped, key), rtol=0, atol=1e-12), key


def test_imported_file_keeps_every_number_and_its_source(tmp_path: Path, flame_pkl: Path, landmark_npy: Path) -> None:
    neck, stiffness = tmp_path / "neck.npy", tmp_path / "stiffness.npy"
    np.save(neck, np.array([1, 5, 9]))
    np.save(stiffness, np.linspace(0, 1, 602))
    read = read_flame(flame_pkl, landmark_npy, neck=neck, stiffness=stiffness)
    save_body(tmp_path / "flame.npz", read)
    loaded = load_body(tmp_path / "flame.npz", "decaf", dtype=torch.float64)
    direct = ParametricBody(read, DECAF["head"], torch.float64)
    pose = random(1, 6)
    assert torch.equal(loaded(pose=pose).keypoints, direct(pose=pose).keypoints)
    assert [file["name"] for file in loaded.arrays.provenance["files"]] == [
        "generic_model.pkl",
        "landmark_embedding.npy",
        "neck.npy",
        "stiffness.npy",
    ]
    assert all(len(file["sha256"]) == 64 for file in loaded.arrays.provenance["files"])
    assert loaded.mask("neck").nonzero().flatten().tolist() == [1, 5, 9]
    assert loaded.stiffness is not None and loaded.stiffness[-1] == 1
    mirror = loaded.arrays.mirror
    assert mirror is not None, "the toy template is symmetric, as FLAME's is"
    assert np.allclose(read.template[mirror.vertices] * [-1, 1, 1], read.template)


WRONG: dict[str, tuple[Callable[[dict], dict], str]] = {
    "missing": (lambda m: {k: v for k, v in m.items() if k != "posedirs"}, "key 'posedirs' is missing"),
    "shape": (
        lambda m: m | {"weights": m["weights"][:-1]},
        r"key 'weights' has shape \(777, 16\), expected \(778, 16\)",
    ),
    "nan": (
        lambda m: m | {"v_template": m["v_template"] * [1, np.nan, 1]},
        "key 'v_template' holds 778 values that are not finite",
    ),
    "text": (lambda m: m | {"f": "none"}, "key 'f' holds"),
    "no pose": (lambda m: {k: v for k, v in m.items() if k != "hands_mean"}, "key 'hands_mean' is missing"),
    "few shapes": (
        lambda m: m | {"shapedirs": m["shapedirs"][:, :, :4]},
        "key 'shapedirs' has 4 directions, 10 are needed",
    ),
    "faces": (lambda m: m | {"f": m["f"] + 1}, r"key 'faces' must name vertices 0\.\.777"),
    "weights": (lambda m: m | {"weights": m["weights"] * 2}, "key 'weights': rows must sum to 1"),
    "tree": (lambda m: m | {"kintree_table": m["kintree_table"][:, ::-1]}, "key 'parents' is not a tree"),
    "short regressor": (lambda m: m | {"J_regressor": m["J_regressor"][:, :-1]}, "key 'J_regressor' has shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_mano_names_file_and_key(case: str, tmp_path: Path, mano_arrays: dict, write_python2: Callable) -> None:
    spoil, message = WRONG[case]
    path = write_python2(tmp_path / "MANO_RIGHT.pkl", spoil(mano_arrays))
    with pytest.raises(BodyFileError, match=message) as caught:
        read_mano(path)
    assert str(path) in str(caught.value)


def test_the_other_body_is_refused(flame_pkl: Path, mano_pkl: Path, landmark_npy: Path) -> None:
    with pytest.raises(BodyFileError, match="has 5 joints, expected 16; is this the other body's file"):
        read_mano(flame_pkl)
    with pytest.raises(BodyFileError, match="has 16 joints, expected 5"):
        read_flame(mano_pkl, landmark_npy)


def test_wrong_landmarks_name_file_and_key(
    tmp_path: Path, flame_pkl: Path, flame_arrays: dict, landmark_arrays: Any
) -> None:
    good = {"full_lmk_faces_idx": landmark_arrays.faces, "full_lmk_bary_coords": landmark_arrays.weights}
    for change, message in (
        ({"full_lmk_faces_idx": landmark_arrays.faces + len(flame_arrays["f"])}, "key 'full_lmk_faces_idx' names face"),
        ({"full_lmk_bary_coords": landmark_arrays.weights * 2}, "rows must sum to 1"),
        ({"full_lmk_faces_idx": landmark_arrays.faces[:, 1:]}, "67 faces"),
    ):
        np.savez(tmp_path / "landmarks.npz", **(good | change))
        with pytest.raises(BodyFileError, match=message) as caught:
            read_flame(flame_pkl, tmp_path / "landmarks.npz")
        assert "landmarks.npz" in str(caught.value)


def test_pickle_is_not_loaded_directly(mano_pkl: Path) -> None:
    with pytest.raises(BodyFileError, match="handface bodies import"):
        load_body(mano_pkl)


def test_a_left_hand_is_refused_or_mirrored_and_then_the_right_one(tmp_path: Path) -> None:
    left, right = tmp_path / "MANO_LEFT.pkl", tmp_path / "MANO_RIGHT.pkl"
    left.write_bytes(pickle.dumps(free_hand_as_mano(True), 5))
    right.write_bytes(pickle.dumps(free_hand_as_mano(False), 5))
    with pytest.raises(BodyFileError, match=r"MANO_LEFT\.pkl: a left hand .*--mirror-left"):
        read_mano(left)
    bodies = [ParametricBody(read_mano(path, mirror_left=True), dtype=torch.float64) for path in (left, right)]
    betas, pose = random(2, 10, scale=2), random(2, 45, seed=1)
    mirrored, expected = (body(betas, pose) for body in bodies)
    assert torch.allclose(mirrored.vertices, expected.vertices)
    assert torch.allclose(mirrored.keypoints, expected.keypoints)
    assert cli(["bodies", "import", str(left), "--output", str(tmp_path / "x.npz")]) == 2
    assert cli(["bodies", "import", str(left), "--output", str(tmp_path / "x.npz"), "--mirror-left"]) == 0


def test_objects_in_an_npz_are_opened_where_they_are_needed_and_ignored_elsewhere(
    tmp_path: Path, mano_arrays: dict, mano_pkl: Path
) -> None:
    sparse = mano_arrays | {"J_regressor": scipy.sparse.csc_matrix(mano_arrays["J_regressor"])}
    unneeded = {"part2num": np.array({"hand": {1, 2}}, object), "dangerous": np.array([len], object)}
    np.savez(tmp_path / "mano.npz", **sparse, **unneeded)
    expected = read_mano(mano_pkl)
    assert np.allclose(read_mano(tmp_path / "mano.npz").joint_template, expected.joint_template)
    np.savez(tmp_path / "bad.npz", **sparse | {"weights": np.array([len], object)})
    with pytest.raises(BodyFileError, match=r"bad\.npz: refused: the file asks for builtins\.len"):
        read_mano(tmp_path / "bad.npz")
    np.savez(tmp_path / "part.npz", v_template=mano_arrays["v_template"], **unneeded)
    with pytest.raises(BodyFileError, match=r"part\.npz: key 'shapedirs' is missing"):
        read_mano(tmp_path / "part.npz")


@pytest.mark.parametrize(("columns", "first"), [(400, 300), (150, 100)])
def test_flame_layouts_are_known_by_their_directions(
    tmp_path: Path, flame_arrays: dict, landmark_npy: Path, columns: int, first: int
) -> None:
    directions = np.random.default_rng(1).normal(0, 1e-3, (602, 3, columns))
    np.savez(tmp_path / "flame.npz", **flame_arrays | {"shapedirs": directions})
    body = read_flame(tmp_path / "flame.npz", landmark_npy)
    assert np.array_equal(body.expressiondirs, directions[:, :, first : first + 50])
    np.savez(tmp_path / "flame.npz", **flame_arrays | {"shapedirs": directions[:, :, :120]})
    with pytest.raises(BodyFileError, match="has 120 directions; FLAME of 2019, 2020 and 2023 has 400"):
        read_flame(tmp_path / "flame.npz", landmark_npy)
