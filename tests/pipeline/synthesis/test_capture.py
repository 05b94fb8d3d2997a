"""Synthetic Decaf: complete, smooth, the same for any workers and after any kill; converting it gives back what was drawn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.jobs.cli import main
from handface.model.bodies.body import BodyOutput
from handface.model.bodies.load import load_body
from handface.pipeline.contract.lock import LOCK_NAME
from handface.pipeline.contract.sample import Labels
from handface.pipeline.contract.shards import iter_samples
from handface.pipeline.decaf.reader import SubjectReader, find_sequences
from handface.pipeline.synthesis.studio.capture import split_of, take_lengths
from handface.pipeline.synthesis.studio.dataset import CaptureConfig, StudioConfig
from handface.pipeline.synthesis.studio.motion import draw_way
from tests.pipeline.toy_stages import parts_of

ROOT = Path(__file__).parents[3]
FRAMES, SUBJECTS = 25, 2
FILM = ["synthesize", "--layout", "decaf", "--count", str(FRAMES), "--pictures.supersample", "1"]
FILM += ["--capture.subjects", str(SUBJECTS), "--capture.width", "192", "--capture.height", "108", "--output"]
BODIES = ["--hand-model", "free-hand", "--head-model", "free-head"]


def files_of(root: Path) -> dict[str, bytes]:
    """Of the dataset; `.film` holds the plan and parts of the run that made it, with its day and timings."""
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".film/")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "decaf"
    assert main([*FILM, str(root), "--local"]) == 0
    return root


@pytest.fixture(scope="module")
def shards(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    assert main(["decaf-to-shards", "--decaf", str(dataset), *BODIES, "--output", str(folder), "--local"]) == 0
    return folder


def reader_of(dataset: Path, split: str = "train") -> SubjectReader:
    (sequence,) = find_sequences(dataset, split)
    return SubjectReader(sequence)


def test_both_splits_have_a_subject_with_all_cameras_and_a_cut(dataset: Path) -> None:
    readers = [reader_of(dataset, "test"), reader_of(dataset, "train")]
    assert [r.sequence.subject for r in readers] == ["S1", "S2"]
    assert [r.frames for r in readers] == [13, 12]
    assert all(set(r.cameras) == {"102", "108"} for r in readers)
    assert [r.segment(r.frames - 1) for r in readers] == [1, 1]
    assert not (dataset / ".writing").exists() or not any((dataset / ".writing").iterdir())


def test_what_all_subjects_share_is_there(dataset: Path) -> None:
    from PIL import Image

    head = load_body("free-head")
    corresponding = np.load(dataset / "assets" / "left_right_face_corresps.npy")
    template = head.arrays.template
    assert np.linalg.norm(template[corresponding] * [-1, 1, 1] - template, axis=1).max() < 1e-3
    assert np.load(dataset / "assets" / "stiffness_final.npy").shape == (head.num_vertices,)
    backgrounds = list((dataset / "assets" / "aug_back_ground").iterdir())
    assert len(backgrounds) == 4 and all(min(Image.open(path).size) >= 224 for path in backgrounds)


def test_a_subject_is_one_person_who_moves_smoothly_and_is_touched(dataset: Path) -> None:
    for split in ("train", "test"):
        reader = reader_of(dataset, split)
        poses = [reader.pose(t) for t in range(reader.frames)]
        for key, bodies in (("shape_params", [p.head for p in poses]), ("betas", [p.hand for p in poses])):
            assert all((b[key] == bodies[0][key]).all() for b in bodies)
        assert any(p.hand_contact.any() and p.head_contact.any() for p in poses)
        together = [t for t in range(1, reader.frames) if reader.segment(t) == reader.segment(t - 1)]
        for t in together:
            before, now = poses[t - 1], poses[t]
            assert np.linalg.norm(now.head["transl"] - before.head["transl"]) < 0.03
            assert np.abs(now.head["expression_params"] - before.head["expression_params"]).max() < 0.6
            assert np.linalg.norm(now.deformation - before.deformation, axis=1).max() < 0.012
        for pose in poses:
            pressed = np.linalg.norm(pose.deformation, axis=1) > 0
            assert not pressed.any() or pose.hand_contact.any() or np.abs(pose.deformation).max() < 0.004


def test_a_longer_way_has_no_jumps() -> None:
    for seed in range(20):
        way = draw_way(np.random.default_rng(seed), 90)
        for values, most in ((way.lift, 0.003), (way.along, 0.01), (way.orient, 0.004), (way.place, 0.001)):
            assert np.abs(np.diff(values, 2, axis=0)).max() < most
        assert way.lift.min() >= 0 and way.expression.min() >= 0 and way.expression.max() <= 1
        assert not way.expression[:, 50:].any()  # Decaf stores 50


def test_keys_and_boxes_lie_on_the_person(dataset: Path) -> None:
    reader = reader_of(dataset)
    for camera in reader.cameras:
        for view in reader.views(camera):
            assert 0.1 < view.mask.mean() < 0.9
            seen = view.head_keys[view.head_keys[:, 2] == 1]
            assert len(seen) > 20
            x, y = np.round(seen[:, :2]).astype(int).T
            assert view.mask[np.clip(y, 0, 107), np.clip(x, 0, 191)].mean() > 0.9
            assert view.head_box is not None
            x0, y0, x1, y1 = view.head_box
            assert (x0 - 1 <= x).all() and (x <= x1).all() and (y0 - 1 <= y).all() and (y <= y1).all()


def test_converted_parameters_contacts_and_deformation_are_what_was_stored(dataset: Path, shards: Path) -> None:
    reader = reader_of(dataset)
    samples = [sample for tar in shards.glob("*.tar") for sample in iter_samples(str(tar))]
    frames = {(s.meta.source.columns["camera"], int(s.meta.source.member or 0)): s for s in samples}
    assert len(frames) == reader.frames * 2
    for (camera, t), sample in frames.items():
        labels, pose = sample.labels, reader.pose(t)
        assert (labels.hand_pose == pose.hand["hand_pose"].reshape(15, 3)).all()
        assert (labels.hand_betas == pose.hand["betas"]).all()
        assert (labels.head_betas == pose.head["shape_params"]).all()
        assert (labels.head_expression == pose.head["expression_params"]).all()
        assert (labels.head_pose == pose.head["pose_params"].reshape(2, 3)).all()
        assert (unpack(labels.head_contact, len(pose.head_contact)) == pose.head_contact).all()
        assert (unpack(labels.hand_contact, len(pose.hand_contact)) == pose.hand_contact).all()
        dense = np.zeros_like(pose.deformation, np.float16)
        dense[labels.head_deformation_rows] = labels.head_deformation
        assert (dense == -pose.deformation.astype(np.float16)).all()
        hand, head = posed(labels)
        check_projection(hand, labels.hand_keypoints_2d[0], labels)
        check_projection(head, labels.face_keypoints_2d, labels)
        # in world axes the bodies stand where the stored parameters put them
        stored = load_body("free-head", "decaf", dtype=torch.float64)(
            **batched(pose.head, betas="shape_params", pose="pose_params", expression="expression_params"),
            **batched(pose.head, global_orient="global_orient", transl="transl"),
        )
        extrinsic = reader.cameras[camera].extrinsic
        world = stored.vertices[0].numpy() @ extrinsic[:3, :3].T + extrinsic[:3, 3]
        assert np.abs(head.vertices[0].numpy() - world).max() < 1e-5


def unpack(bits: np.ndarray | None, count: int) -> np.ndarray:
    assert bits is not None
    return np.unpackbits(bits)[:count].astype(bool)


def batched(values: dict[str, np.ndarray], **names: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values[key].astype(np.float64))[None] for name, key in names.items()}


def posed(labels: Labels) -> tuple[BodyOutput, BodyOutput]:
    bodies = []
    for kind in ("hand", "head"):
        body = load_body(f"free-{kind}", "decaf", dtype=torch.float64)
        values = {name: getattr(labels, f"{kind}_{name}").ravel() for name in ("betas", "pose", "global_orient")}
        values |= {"transl": getattr(labels, f"{kind}_transl")}
        if kind == "head":
            values["expression"] = labels.head_expression
        bodies.append(body(**batched(values, **{name: name for name in values})))
    return bodies[0], bodies[1]


def check_projection(body: BodyOutput, keys: np.ndarray, labels: Labels) -> None:
    seen = body.keypoints[0].numpy() @ labels.camera_intrinsics.T
    pixels = seen[:, :2] / seen[:, 2:]
    found = keys[:, 2] > 0
    assert (np.linalg.norm(pixels - keys[:, :2], axis=1)[found] < 0.5).all()


def test_shards_are_valid(shards: Path) -> None:
    assert main(["validate", str(shards)]) == 0


@pytest.mark.slow
def test_ray_gives_the_same_files(dataset: Path, shards: Path, tmp_path: Path, ray_cluster: None) -> None:
    root = tmp_path / "decaf"
    assert main([*FILM, str(root), "--workers", "2"]) == 0
    assert files_of(root) == files_of(dataset)
    units = ["--unit-size", "10"]
    command = ["decaf-to-shards", "--decaf", str(dataset), *BODIES, *units, "--output"]
    assert main([*command, str(tmp_path / "ray"), "--workers", "2"]) == 0
    assert main([*command, str(tmp_path / "local"), "--local"]) == 0
    assert len(parts_of(tmp_path / "local")) > len(parts_of(shards))
    assert parts_of(tmp_path / "ray") == parts_of(tmp_path / "local")


@pytest.mark.slow
def test_killed_film_leaves_no_half_written_file_and_a_rerun_completes_it(dataset: Path, tmp_path: Path) -> None:
    root, expected = tmp_path / "decaf", files_of(dataset)
    aside = root / ".writing" / "S2"
    kill_when([*FILM, str(root), "--local"], lambda: (aside / "train" / "videos" / "S2").exists())
    assert [path.stem for path in (root / "synthesis").iterdir()] == ["S1"]
    # the lock file of a killed process locks nothing
    left = (".writing", LOCK_NAME)
    in_place = {name: data for name, data in files_of(root).items() if not name.startswith(left)}
    assert in_place == {name: data for name, data in expected.items() if name in in_place}
    assert not (root / "train").exists()
    finished_at = (root / "synthesis" / "S1.json").stat().st_mtime_ns
    assert main([*FILM, str(root), "--local"]) == 0
    assert files_of(root) == expected
    assert (root / "synthesis" / "S1.json").stat().st_mtime_ns == finished_at  # not done again


def test_killed_conversion_is_completed_by_a_rerun(dataset: Path, tmp_path: Path) -> None:
    command = ["decaf-to-shards", "--decaf", str(dataset), *BODIES, "--unit-size", "4", "--local", "--output"]
    assert main([*command, str(tmp_path / "calm")]) == 0
    killed = tmp_path / "killed"
    kill_when([*command, str(killed)], lambda: len(list(killed.glob("part-*.json"))) >= 1)
    assert main([*command, str(killed)]) == 0
    assert parts_of(killed) == parts_of(tmp_path / "calm")


def kill_when(arguments: list[str], ready) -> None:  # type: ignore[no-untyped-def]
    """Start the command in a process of its own and SIGKILL it once `ready()`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"handface.jobs.{arguments[0].replace('-', '_')}", *arguments[1:]]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def test_other_settings_in_the_same_folder_are_refused(dataset: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    before = files_of(dataset)
    wider = ["256" if word == "192" else word for word in FILM]
    assert main([*wider, str(dataset), "--local", "--seed", "1"]) == 2
    message = capsys.readouterr().err
    assert "capture.width was 192, is 256" in message and "seed was 0, is 1" in message
    assert files_of(dataset) == before


def test_a_subject_that_cannot_be_filmed_is_named_and_the_run_fails(tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    nothing = tmp_path / "backgrounds"
    nothing.mkdir()
    (nothing / "broken.png").write_bytes(b"no picture")
    assert main([*FILM, str(tmp_path / "out"), "--local", "--pictures.backgrounds", str(nothing)]) == 1
    assert "failed: BackgroundError" in caplog.text and "while filming studio:0/S1#1" in caplog.text
    assert not (tmp_path / "out" / "train").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": 0}, "at least one subject"),
        ({"cameras": 9}, "1 to 8"),
        ({"width": 65}, "even numbers"),
        ({"take_frames": 2}, "take_frames"),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptureConfig(**arguments)


def test_frames_and_takes_are_shared_out() -> None:
    config = StudioConfig(frames=11, capture=CaptureConfig(subjects=3))
    assert [config.frames_of(n) for n in (1, 2, 3)] == [4, 4, 3]
    with pytest.raises(ValueError, match="too few"):
        StudioConfig(frames=5, capture=CaptureConfig(subjects=3))
    assert take_lengths(11, 60) == [11] and take_lengths(12, 60) == [6, 6]
    assert sum(take_lengths(1000, 60)) == 1000 and 50 <= min(take_lengths(1000, 60)) <= 70
    assert [split_of(n, 8) for n in range(1, 9)] == [
        "test",
        "train",
        "test",
        "train",
        "train",
        "test",
        "train",
        "train",
    ]
    assert split_of(1, 1) == "train"


def test_manifest_lists_every_file_with_its_hash(dataset: Path) -> None:
    import hashlib

    listed = {}
    for path in (dataset / "synthesis").iterdir():
        listed |= json.loads(path.read_text())["sha256"]
    data = {n: b for n, b in files_of(dataset).items() if not n.startswith("synthesis")}
    assert all(hashlib.sha256(data[name]).hexdigest() == digest for name, digest in listed.items())
    shared = {"left_right_face_corresps.npy", "FLAME_neck_idx.npy", "neck_idx.npy", "stiffness_final.npy"}
    rest = {Path(name).name for name in set(data) - set(listed) if "aug_back_ground" not in name}
    assert rest == shared
