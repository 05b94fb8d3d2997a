"""A Decaf folder with MANO's and FLAME's own files in its assets, as the official one has them."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.jobs.cli import main
from handface.model.bodies import DECAF, ParametricBody
from handface.model.bodies.readers import read_flame, read_mano
from handface.pipeline.contract.checks.sample import check_sample
from handface.pipeline.contract.shards import iter_samples, read_shard
from handface.pipeline.decaf.writer import write_assets
from tests.pipeline.decaf.test_decaf import FRAMES, NECK, cameras, posed, write_subject

pytest_plugins = ["tests.model.bodies.gated_files"]


@pytest.fixture
def gated(tmp_path: Path, mano_pkl: Path, flame_pkl: Path, landmark_npy: Path):  # type: ignore[no-untyped-def]
    """The folder, the two bodies read by themselves, and the poses of S1 as they were written."""
    bodies = [
        ParametricBody(arrays, DECAF[arrays.kind], torch.float64)
        for arrays in (read_mano(mano_pkl), read_flame(flame_pkl, landmark_npy))
    ]
    root = tmp_path / "decaf"
    poses = write_subject(root, "test", "S1", bodies)
    write_assets(root, np.arange(bodies[1].num_vertices), NECK, {})
    models = root / "assets" / "mano_v1_2" / "models"
    models.mkdir(parents=True)
    shutil.copy(mano_pkl, models / "MANO_RIGHT.pkl")
    for file in (flame_pkl, landmark_npy):
        shutil.copy(file, root / "assets" / file.name)
    return root, bodies, poses


def convert(root: Path, output: Path) -> int:
    """The command a person would give."""
    options = ["--decaf", str(root), "--output", str(output), "--split", "test", "--cameras", "102", "--local"]
    return main(["decaf-to-shards", *options])


def test_labels_are_those_of_the_bodies_in_the_assets(gated, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root, bodies, poses = gated
    assert convert(root, tmp_path / "out") == 0
    tars = sorted((tmp_path / "out").glob("**/part-*.tar"))
    samples = {int(s.meta.source.member): s for tar in tars for s in iter_samples(str(tar))}
    assert sorted(samples) == list(range(FRAMES))
    assert not [p for tar in tars for key, members in read_shard(str(tar)) for p in check_sample(key, members)]
    extrinsic = cameras()["102"].extrinsic
    for frame, pose in enumerate(poses):
        labels = samples[frame].labels
        assert (labels.hand_model, labels.head_model) == ("mano", "flame-decaf")
        for body, found in zip(posed(bodies, pose), (labels.hand_keypoints_3d, labels.head_keypoints_3d), strict=True):
            seen = body.keypoints[0].numpy() @ extrinsic[:3, :3].T + extrinsic[:3, 3]
            np.testing.assert_allclose(found, seen, atol=1e-5)
        hand = bodies[0](  # the labels' parameters, now in the camera's axes, pose the same hand
            *(torch.from_numpy(np.asarray(value, np.float64)).reshape(1, -1) for value in (
                labels.hand_betas, labels.hand_pose, labels.hand_global_orient, labels.hand_transl)))  # fmt: skip
        np.testing.assert_allclose(hand.keypoints[0].numpy(), labels.hand_keypoints_3d, atol=1e-5)


@pytest.mark.parametrize("name", ["mano_v1_2/models/MANO_RIGHT.pkl", "generic_model.pkl", "landmark_embedding.npy"])
def test_a_missing_asset_is_named(gated, tmp_path: Path, name: str, capsys) -> None:  # type: ignore[no-untyped-def]
    (gated[0] / "assets" / name).unlink()
    assert convert(gated[0], tmp_path / "out") == 2
    assert name in " ".join(capsys.readouterr().err.split()).replace(" ", "")
    assert not list(tmp_path.glob("out/**/part-*"))


def test_a_hostile_asset_is_refused_and_runs_nothing(gated, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    class Hostile:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return Path.touch, (tmp_path / "ran",)

    (gated[0] / "assets" / "generic_model.pkl").write_bytes(pickle.dumps(Hostile()))
    assert convert(gated[0], tmp_path / "out") == 2
    assert "generic_model.pkl" in capsys.readouterr().err.replace("\n", "") and not (tmp_path / "ran").exists()
