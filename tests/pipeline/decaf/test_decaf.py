"""Decaf's layout: a generated dataset is written, read, converted; and each thing that can be wrong with one is named."""

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handface.jobs.decaf_to_shards import Config, run
from handface.model.bodies.load import load_body
from handface.model.bodies.names import MEDIAPIPE_FROM_POINTS
from handface.pipeline.contract.checks.sample import check_sample
from handface.pipeline.contract.sample import encode
from handface.pipeline.contract.shards import iter_samples, read_shard
from handface.pipeline.decaf.layout import (
    HAND_PARAMS,
    HEAD_PARAMS,
    DecafCamera,
    DecafError,
    DecafView,
    Pose3D,
    Sequence,
)
from handface.pipeline.decaf.reader import SubjectReader, find_sequences
from handface.pipeline.decaf.writer import SequenceWriter, write_assets

FRAMES, WIDTH, HEIGHT = 12, 160, 90
NECK = np.array([0, 1, 2])


@pytest.fixture(scope="module")
def bodies():
    return load_body("free-hand", "decaf", dtype=torch.float64), load_body("free-head", "decaf", dtype=torch.float64)


def cameras():
    made = {}
    for name, angle, centre in (("102", 0.1, 83.0), ("108", -0.2, 77.5)):
        cos, sin = np.cos(angle), np.sin(angle)
        extrinsic = np.array([[cos, 0, sin, 0.01], [0, 1, 0, 0.02], [-sin, 0, cos, 0.9], [0, 0, 0, 1.0]])
        intrinsic = np.array([[110.0, 0, centre], [0, 111, 44], [0, 0, 1]])
        made[name] = DecafCamera(intrinsic, extrinsic, {"distCoeff": [0.1, 0.0]})
    return made


def random_pose(rng, bodies, frame):
    """A smooth motion: constants plus a slow drift with the frame."""
    hand, head = bodies
    drift = np.sin(frame / 5 + np.arange(200))
    head_params = {k: (0.05 * drift[:n]).astype(np.float32) for k, n in HEAD_PARAMS.items()}
    hand_params = {k: (0.05 * drift[-n:]).astype(np.float32) for k, n in HAND_PARAMS.items()}
    deformation = np.zeros((head.num_vertices, 3), np.float32)
    deformation[10 : 20 + frame] = rng.normal(0, 0.004, (10 + frame, 3))
    head_contact = rng.random(head.num_vertices) < 0.02
    head_contact[NECK] = False
    return Pose3D(head_params, hand_params, head_contact, rng.random(hand.num_vertices) < 0.03, deformation)


def posed(bodies, pose):
    def batch(value):
        return torch.from_numpy(value.astype(np.float64))[None]

    h, f = pose.hand, pose.head
    hand = bodies[0](batch(h["betas"]), batch(h["hand_pose"]), batch(h["global_orient"]), batch(h["transl"]))
    head = bodies[1](
        batch(f["shape_params"]),
        batch(f["pose_params"]),
        batch(f["global_orient"]),
        batch(f["transl"]),
        batch(f["expression_params"]),
    )
    return hand, head


def write_subject(root, split, subject, bodies, mano_order=False, frames=FRAMES):
    rng, poses, cams = np.random.default_rng(int(subject[1:])), [], cameras()
    flip = np.arange(bodies[1].num_vertices)[::-1] // 2 * 2  # not a permutation, as Decaf's is not
    with SequenceWriter(root, split, subject, cams, flip) as writer:
        for frame in range(frames):
            pose = random_pose(rng, bodies, frame)
            hand, head = posed(bodies, pose)
            views = {}
            for name, camera in cams.items():
                ones = np.ones((68, 1), np.float32)
                face = np.hstack([camera.project(head.keypoints[0].numpy()), ones]).astype(np.float32)
                fingers = np.hstack([camera.project(hand.keypoints[0].numpy()), ones[:21]]).astype(np.float32)
                if mano_order:
                    fingers = fingers[np.argsort(MEDIAPIPE_FROM_POINTS)]
                image = rng.integers(0, 255, (9, 16, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
                mask = np.zeros((HEIGHT, WIDTH), bool)
                mask[20:80, 60:110] = True
                views[name] = DecafView(
                    image, mask, None if frame == 3 else (60, 20, 100, 80), (80, 30, 110, 70), face, fingers
                )
            if frame == 7:
                writer.cut()
            writer.add(pose, views, head.rigid[0].numpy(), hand.keypoints[0].numpy())
            poses.append(pose)
    return poses


@pytest.fixture(scope="module")
def decaf(tmp_path_factory, bodies):
    root = tmp_path_factory.mktemp("decaf")
    write_assets(root, np.arange(bodies[1].num_vertices), NECK, {})
    return root, {
        s: write_subject(root, split, s, bodies) for split, s in (("train", "S2"), ("train", "S10"), ("test", "S1"))
    }


@pytest.fixture
def broken(decaf, tmp_path):
    """A copy of one subject, for breaking."""
    root = tmp_path / "broken"
    shutil.copytree(decaf[0], root)
    return root, Sequence(root, "test", "S1")


def convert(root, output, **options):
    options = {"hand_model": "free-hand", "head_model": "free-head", "local": True, "unit_size": 8} | options
    assert run(Config(decaf=str(root), output=str(output), **options)) == 0
    return sorted(Path(output).glob("**/part-*.tar"))


def test_reader_gives_back_what_was_written(decaf):
    root, written = decaf
    sequences = find_sequences(root, "train")
    assert [s.subject for s in sequences] == ["S2", "S10"]
    reader = SubjectReader(sequences[0])
    assert (reader.frames, list(reader.cameras)) == (FRAMES, ["102", "108"])
    assert reader.cameras["102"].extra == {"distCoeff": [0.1, 0.0]}
    assert [reader.segment(i) for i in (0, 6, 7, 11)] == [0, 0, 1, 1]
    for frame, pose in enumerate(written["S2"]):
        back = reader.pose(frame)
        for name in HEAD_PARAMS:
            np.testing.assert_array_equal(back.head[name], pose.head[name])
        for name in HAND_PARAMS:
            np.testing.assert_array_equal(back.hand[name], pose.hand[name])
        np.testing.assert_array_equal(back.head_contact, pose.head_contact)
        np.testing.assert_array_equal(back.hand_contact, pose.hand_contact)
        np.testing.assert_array_equal(back.deformation, pose.deformation)
    views = list(reader.views("108"))
    assert len(views) == FRAMES and views[3].head_box is None and views[0].hand_box == (80, 30, 110, 70)
    assert views[0].mask[40, 80] and not views[0].mask[5, 5]


def test_round_trip_into_samples(decaf, tmp_path):
    root, written = decaf
    tars = convert(root, tmp_path / "out", split="test", cameras=("108",))
    samples = {int(s.meta.source.member): s for tar in tars for s in iter_samples(str(tar))}
    assert len(samples) == FRAMES
    for tar in tars:
        for key, members in read_shard(str(tar)):
            assert "mask.png" in members and not list(check_sample(key, members))
    for frame, pose in enumerate(written["S1"]):
        labels = samples[frame].labels
        np.testing.assert_array_equal(labels.head_betas, pose.head["shape_params"])
        np.testing.assert_array_equal(labels.head_pose.ravel(), pose.head["pose_params"])
        np.testing.assert_array_equal(labels.head_expression, pose.head["expression_params"])
        np.testing.assert_array_equal(labels.hand_pose.ravel(), pose.hand["hand_pose"])
        np.testing.assert_array_equal(
            np.unpackbits(labels.head_contact, count=len(pose.head_contact)), pose.head_contact
        )
        np.testing.assert_array_equal(
            np.unpackbits(labels.hand_contact, count=len(pose.hand_contact)), pose.hand_contact
        )
        deformation = np.zeros_like(pose.deformation, np.float16)
        deformation[labels.head_deformation_rows] = -labels.head_deformation
        np.testing.assert_array_equal(deformation, pose.deformation.astype(np.float16))
        for points, keys in (
            (labels.head_keypoints_3d, labels.face_keypoints_2d),
            (labels.hand_keypoints_3d, labels.hand_keypoints_2d[0]),
        ):
            seen = points @ labels.camera_intrinsics.T
            assert np.abs(seen[:, :2] / seen[:, 2:] - keys[:, :2]).max() < 0.5
    assert samples[0].meta.crop.size == HEIGHT
    assert samples[0].meta.crop.affine[0][2] == round(87.5 - 45)
    assert (samples[0].labels.hand_model, samples[0].labels.head_model) == ("free-hand", "free-head-decaf")


def test_labels_pose_the_head_where_the_camera_sees_it(decaf, bodies, tmp_path):
    root, written = decaf
    tars = convert(root, tmp_path / "out", split="test", cameras=("102",))
    labels = next(iter_samples(str(tars[0]))).labels
    frame = int(next(iter_samples(str(tars[0]))).meta.source.member)
    pose = written["S1"][frame]
    camera = cameras()["102"].extrinsic
    for body, world in zip(("hand", "head"), posed(bodies, pose), strict=True):
        names = {"global_orient": getattr(labels, f"{body}_global_orient"), "transl": getattr(labels, f"{body}_transl")}
        moved = Pose3D(pose.head | names, pose.hand | names, pose.head_contact, pose.hand_contact, pose.deformation)
        vertices = posed(bodies, moved)[("hand", "head").index(body)].vertices[0].numpy()
        expected = world.vertices[0].numpy() @ camera[:3, :3].T + camera[:3, 3]
        assert np.abs(vertices - expected).max() < 1e-5


def test_hand_keys_in_manos_order_are_recognised(bodies, tmp_path):
    write_assets(tmp_path / "d", np.arange(bodies[1].num_vertices), NECK, {})
    write_subject(tmp_path / "d", "train", "S4", bodies, mano_order=True)
    (tar, *_) = convert(tmp_path / "d", tmp_path / "out", cameras=("108",))
    labels = next(iter_samples(str(tar))).labels
    seen = labels.hand_keypoints_3d @ labels.camera_intrinsics.T
    assert np.abs(seen[:, :2] / seen[:, 2:] - labels.hand_keypoints_2d[0, :, :2]).max() < 0.5


def _shorten(path):
    np.save(path, np.load(path)[:-1])


def _poison(path):
    array = np.load(path).astype(np.float32)
    array[4, 0] = np.nan
    np.save(path, array)


def _drop(*keys):
    def change(path):
        value = tree = pickle.loads(path.read_bytes())
        for key in keys[:-1]:
            tree = tree[key]
        del tree[keys[-1]]
        path.write_bytes(pickle.dumps(value))

    return change


@pytest.mark.parametrize(
    ("kind", "name", "change", "said"),
    [
        ("videos", "108", Path.unlink, "videos/S1/108.mp4: missing"),
        ("segmentations", "108", Path.unlink, "segmentations/S1/108.mp4: missing"),
        ("videos", "102", lambda p: p.write_bytes(b"no video"), "videos/S1/102.mp4: not a readable video"),
        ("head_keys", "108", _shorten, r"head_keys/S1/108.npy: shape \(11, 68, 3\), expected \(12"),
        ("contacts", "contacts_rh.npy", _shorten, "contacts_rh.npy: shape"),
        ("deformations", "deforms.npy", _poison, "deforms.npy: frame 4 has values that are not finite"),
        ("params", "params_smoothed.pkl", _drop(3), "not the frames 0 to 10"),
        (
            "params",
            "params_smoothed.pkl",
            _drop(3, "head", "pose_params"),
            "frame 3, head: key 'pose_params' is missing",
        ),
        ("cameras", "cameras.pkl", _drop("108"), "key '108' is missing"),
        ("cameras", "cameras.pkl", _drop("108", "intrinsic"), "camera 108: key 'intrinsic' is missing"),
        ("cameras", "cameras.pkl", lambda p: p.write_bytes(pickle.dumps(print)), "refused"),
    ],
)
def test_what_is_wrong_is_named(broken, kind, name, change, said):
    _, sequence = broken
    path = sequence.annotation(kind, name) if "." in name else sequence.of_camera(kind, name)
    change(path)
    with pytest.raises(DecafError, match=said):
        SubjectReader(sequence, ("102", "108"))


def test_failed_detections_are_confidence_zero_and_a_missing_camera_is_skipped(broken):
    _, sequence = broken
    path = sequence.of_camera("head_keys", "108")
    keys = np.load(path)
    keys[0], keys[1, 5] = np.nan, -1
    np.save(path, keys)
    boxes = sequence.of_camera("right_hand_bbs", "108")
    np.save(boxes, np.load(boxes) + np.array([0, 0, 1000, 0]))
    sequence.of_camera("videos", "102").unlink()
    reader = SubjectReader(sequence)
    assert list(reader.cameras) == ["108"]
    first, second, *_ = reader.views("108")
    assert not first.head_keys.any() and first.hand_box is None
    assert not second.head_keys[5].any() and second.head_keys[6, 2] == 1
    with pytest.raises(DecafError, match="no subject S9"):
        find_sequences(sequence.root, "test", ("S9",))


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("segmentations", "108", Path.unlink),
        ("head_keys", "108", Path.unlink),
        ("videos", "108", lambda p: p.write_bytes(b"no video")),
        ("cameras", "cameras.pkl", _drop("108")),
        ("cameras", "cameras.pkl", _drop("108", "intrinsic")),
    ],
)
def test_a_camera_that_is_not_whole_is_left_out_and_said(broken, caplog, kind, name, change):
    _, sequence = broken
    change(sequence.annotation(kind, name) if "." in name else sequence.of_camera(kind, name))
    assert list(SubjectReader(sequence).cameras) == ["102"]
    assert "camera 108 of S1 is left out" in caplog.text
    sequence.of_camera("right_hand_bbs", "102").unlink()
    with pytest.raises(DecafError, match="none of the 2 cameras is complete"):
        SubjectReader(sequence)


def test_what_macos_leaves_beside_files_is_no_camera_and_no_subject(broken, caplog):
    _, sequence = broken
    for kind in ("videos", "segmentations", "head_keys"):
        path = sequence.of_camera(kind, "108")
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7Mac OS X")
    (sequence.of_camera("videos", "108").parents[1] / "._S1").mkdir()
    assert [one.subject for one in find_sequences(sequence.root, "test")] == ["S1"]
    assert list(SubjectReader(sequence).cameras) == ["102", "108"] and not caplog.text


def test_a_cut_list_that_is_none_is_named(broken):
    _, sequence = broken
    sequence.cuts.write_bytes(pickle.dumps([7]))
    with pytest.raises(DecafError, match=r"S1\.pkl: not a list of pairs"):
        SubjectReader(sequence)


def test_masks_are_checked_for_size_mode_and_values(make_sample):
    sample = make_sample(0)
    side = sample.meta.crop.size
    grey, small, colour = Image.new("L", (side, side), 7), Image.new("L", (8, 8)), Image.new("RGB", (side, side))
    for image, said in ((grey, "other than 0 and 255"), (small, "but the crop is"), (colour, "mode RGB")):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        (problem,) = check_sample(sample.key, encode(sample) | {"mask.png": buffer.getvalue()})
        assert problem.code == "bad_mask" and said in problem.message


def test_converting_twice_gives_equal_parts(decaf, tmp_path):
    first, second = (convert(decaf[0], tmp_path / name, split="test", cameras=("108",)) for name in "ab")
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in second]
