"""Real parameters: draws that depend on seed and step alone, and readers of every format that name what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handface.model.network.config import RELEASED_SIZES
from handface.model.network.topology import PartSizes, Sizes
from handface.pipeline.contract.sample import LEFT, RIGHT, Labels
from handface.trainers.priors import ParameterSet, PriorDataError, PriorSource, RealConfig, RealParameters
from handface.trainers.priors.freihand import read_freihand
from handface.trainers.priors.renderme import read_renderme
from handface.trainers.priors.sources import collect_labels, read_parameters, read_shards

h5py = pytest.importorskip("h5py")
SEED = 7


def _parameters(count: int, seed: int = 0, **changes: Any) -> ParameterSet:
    rng = np.random.default_rng(seed)
    widths = {"hand_pose": 45, "hand_betas": 10, "head_jaw": 3, "head_expression": 50, "head_betas": 100}
    arrays: dict[str, Any] = {
        name: rng.normal(size=(count, width)).astype(np.float32) for name, width in widths.items()
    }
    return ParameterSet(**({"source": "toy", "hand_model": "mano", "head_model": "flame"} | arrays | changes))


def _smc(path: Path, frames: int = 3, scale: float = 1.0) -> Path:
    """The container the public readers describe: one group per frame, float64."""
    with h5py.File(path, "w") as container:
        group = container.create_group("FLAME")
        group.attrs["num_frame"] = frames
        for index in range(frames):
            frame = group.create_group(str(index))
            for name in ("global_pose", "neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose", "trans"):
                frame[name] = np.full(3, scale * index)
            frame["exp"], frame["shape"] = np.full(50, 10.0 + index), np.full(100, 20.0 + index)
    return path


def _freihand(path: Path, count: int = 4) -> Path:
    entries = [[(np.arange(61) + 100 * index).tolist()] for index in range(count)]
    path.write_text(json.dumps(entries))
    return path


# --- draws ---


def test_draws_depend_on_seed_and_step_alone() -> None:
    rows = np.arange(40, dtype=np.float32)[:, None]
    one, two = (RealParameters([(rows, 1.0)], [(rows, 1.0)], SEED) for _ in range(2))
    one.sample(0, 8)  # whoever drew before does not matter
    assert one.sample(5, 8).hand.equal(two.sample(5, 8).hand)
    assert not one.sample(5, 8).hand.equal(one.sample(6, 8).hand)
    assert not one.sample(5, 8).hand.equal(one.sample(5, 8).head)
    other = RealParameters([(rows, 1.0)], [(rows, 1.0)], SEED + 1)
    assert not one.sample(5, 8).hand.equal(other.sample(5, 8).hand)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_together_see_what_one_alone_would(world: int) -> None:
    rows = np.arange(40, dtype=np.float32)[:, None]
    real = RealParameters([(rows, 1.0)], [(rows, 1.0)], SEED)
    parts = [real.sample(3, 8 // world, rank, world).hand for rank in range(world)]
    assert np.concatenate(parts).tolist() == real.sample(3, 8).hand.tolist()


def test_weights_are_shares_of_the_draws() -> None:
    decaf, other = np.zeros((3, 1), np.float32), np.ones((500, 1), np.float32)
    real = RealParameters([(decaf, 0.6), (other, 0.4)], [(other, 1.0)], SEED)
    share = real.sample(0, 20_000).hand.mean().item()
    assert share == pytest.approx(0.4, abs=4 * np.sqrt(0.24 / 20_000))


def test_every_row_is_drawn() -> None:
    rows = np.arange(7, dtype=np.float32)[:, None]
    drawn = RealParameters([(rows, 1.0)], [(rows, 1.0)]).sample(0, 500).hand
    assert set(drawn[:, 0].tolist()) == set(range(7))


def test_open_reads_each_source_and_checks_the_body(tmp_path: Path) -> None:
    _parameters(5).save(tmp_path / "decaf.safetensors")
    smc = _smc(tmp_path / "0026_e1.smc")
    config = RealConfig(
        hand=(PriorSource(str(tmp_path / "decaf.safetensors")),),
        head=(PriorSource(str(tmp_path / "decaf.safetensors"), 0.6), PriorSource(str(smc), 0.4)),
    )
    drawn = RealParameters.open(config, RELEASED_SIZES).sample(0, 64)
    assert drawn.hand.shape == (64, 55) and drawn.head.shape == (64, 153)
    from_smc = drawn.head[:, 3] >= 10  # expressions of the toy .smc
    assert 10 < int(from_smc.sum()) < 45
    free = Sizes(
        PartSizes((9, 3), 21, 10, 45, 0, "free-hand", "free"), PartSizes((9, 3), 68, 100, 12, 50, "free-head", "free")
    )
    with pytest.raises(PriorDataError, match=r"decaf.safetensors.*of mano.*free-hand"):
        RealParameters.open(config, free)
    with pytest.raises(PriorDataError, match="the hand prior has no real samples"):
        RealParameters.open(RealConfig(head=config.head), RELEASED_SIZES)
    with pytest.raises(PriorDataError, match="holds no hand parameters"):
        RealParameters.open(RealConfig(hand=(PriorSource(str(smc)),), head=config.hand), RELEASED_SIZES)


def test_a_source_given_for_both_parts_may_hold_one(tmp_path: Path) -> None:
    """As `train --priors decaf.safetensors freihand.safetensors` gives them."""
    _parameters(5).save(tmp_path / "both.safetensors")
    ParameterSet(
        "hands",
        hand_pose=np.full((3, 45), 9, np.float32),
        hand_betas=np.full((3, 10), 9, np.float32),
        hand_model="mano",
    ).save(tmp_path / "hands.safetensors")
    both, hands = (PriorSource(str(tmp_path / f"{name}.safetensors")) for name in ("both", "hands"))
    drawn = RealParameters.open(RealConfig((both, hands), (both, hands)), RELEASED_SIZES).sample(0, 64)
    assert 10 < int((drawn.hand == 9).all(1).sum()) < 54 and not (drawn.head == 9).all(1).any()
    with pytest.raises(PriorDataError, match="the head prior has no real samples"):
        RealParameters.open(RealConfig((hands,), (hands,)), RELEASED_SIZES)


def test_released_mix() -> None:
    config = RealConfig.released("decaf", "freihand", "renderme")
    assert [(s.path, s.weight) for s in config.hand] == [("decaf", 0.6), ("freihand", 0.4)]
    assert [(s.path, s.weight) for s in config.head] == [("decaf", 0.6), ("renderme", 0.4)]
    with pytest.raises(ValueError, match="must be positive"):
        PriorSource("x", 0)


# --- the compact file ---


def test_file_round_trip_and_unique(tmp_path: Path) -> None:
    twice = _parameters(3)
    arrays = {n: np.concatenate([getattr(twice, n)] * 2) for n in ("hand_pose", "hand_betas")}
    kept = ParameterSet("toy", **arrays, hand_model="mano").unique()
    assert np.array_equal(kept.hands(), twice.hands()) and len(kept.heads()) == 0
    kept.save(tmp_path / "a" / "hands.safetensors")
    again = ParameterSet.load(tmp_path / "a" / "hands.safetensors")
    assert np.array_equal(again.hands(), kept.hands()) and again.hand_model == "mano" and again.head_jaw is None
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["hands.safetensors"]


def test_files_that_are_something_else(tmp_path: Path) -> None:
    from safetensors.numpy import save

    path = tmp_path / "x.safetensors"
    path.write_bytes(b"not a tensor file at all")
    with pytest.raises(PriorDataError, match=r"x\.safetensors: not a readable"):
        ParameterSet.load(path)
    path.write_bytes(save({"hand_pose": np.zeros((2, 45), np.float32)}))
    with pytest.raises(PriorDataError, match="no parameter file"):
        ParameterSet.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hand_betas": np.zeros((4, 10), np.float32)}, "expected \\(N, width\\)"),
        ({"head_jaw": None}, "expected \\(N, width\\)"),
        ({"head_betas": np.full((5, 100), np.nan, np.float32)}, "head_betas of entry 0 is not finite"),
        ({"hand_pose": np.full((5, 45), 1e9, np.float32)}, "hand_pose of entry 0"),
    ],
)
def test_sets_that_do_not_fit_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PriorDataError, match=message):
        _parameters(5, **changes)


# --- FreiHAND ---


def test_freihand_gets_its_mean_pose_back(tmp_path: Path) -> None:
    file, mean = _freihand(tmp_path / "training_mano.json"), np.linspace(0.1, 0.5, 45)
    fixed, released = read_freihand(file, mean), read_freihand(file, None)
    assert released.hands()[1].tolist() == [*range(103, 148), *range(148, 158)]  # root left out, then shape
    assert fixed.hand_pose is not None and released.hand_pose is not None
    np.testing.assert_allclose(fixed.hand_pose - released.hand_pose, np.tile(mean, (4, 1)), atol=2e-5)
    assert np.array_equal(fixed.hand_betas, released.hand_betas) and fixed.hand_model == "mano"
    assert len(read_parameters(str(tmp_path), mean_pose=False).hands()) == 4  # the folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[[1, 2", "not JSON"),
        ("{}", "expected a list of hands, found dict"),
        ("[]", "expected a list"),
        (json.dumps([[[0.0] * 61], [[0.0] * 60]]), "entry 1 is not 61 numbers"),
        (json.dumps([[["a"] * 61]]), "entry 0 is not 61 numbers"),
        (json.dumps([[[0.0] * 47 + [float("nan")] + [0.0] * 13]]), "hand_pose of entry 0 is not finite"),
    ],
)
def test_freihand_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "training_mano.json"
    file.write_text(text)
    with pytest.raises(PriorDataError, match=f"training_mano.json.*{message}"):
        read_freihand(file, None)


def test_freihand_needs_a_body_with_a_mean_pose(tmp_path: Path) -> None:
    _freihand(tmp_path / "training_mano.json")
    with pytest.raises(PriorDataError, match="free-hand does not have"):
        read_parameters(str(tmp_path), "free-hand")


# --- RenderMe-360 ---


def test_smc_files(tmp_path: Path) -> None:
    first, second = _smc(tmp_path / "0026_e0.smc", 3, 0.1), _smc(tmp_path / "0041_e1.smc", 2, 0.2)
    with h5py.File(tmp_path / "0026_s1.smc", "w") as container:  # speech: no FLAME
        container.create_group("Camera")
    found = read_parameters(str(tmp_path))
    assert found.head_jaw is not None and found.heads().shape == (5, 153)
    np.testing.assert_allclose(found.head_jaw[:, 0], [0, 0.1, 0.2, 0, 0.2], atol=1e-6)
    assert found.heads()[2, 3] == 12 and found.heads()[2, 53] == 22 and found.head_model == "flame"
    assert len(read_parameters(str(first)).heads()) == 3 and len(read_renderme([second]).heads()) == 2


def test_smc_files_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "0026_e0.smc"
    path.write_bytes(b"this is not HDF5")
    with pytest.raises(PriorDataError, match=r"0026_e0\.smc: not a readable HDF5"):
        read_renderme([path])
    with h5py.File(_smc(path), "a") as container:
        del container["FLAME/1/exp"]
    with pytest.raises(PriorDataError, match=r"FLAME/1/exp is missing"):
        read_renderme([path])
    with h5py.File(_smc(path), "a") as container:
        del container["FLAME/2/shape"]
        container["FLAME/2/shape"] = np.zeros(99)
    with pytest.raises(PriorDataError, match=r"FLAME/2/shape is float64\[99\], expected 100 numbers"):
        read_renderme([path])
    with h5py.File(_smc(path), "a") as container:
        del container["FLAME"].attrs["num_frame"]
    with pytest.raises(PriorDataError, match="num_frame"):
        read_renderme([path])
    with h5py.File(path, "w"):
        pass
    with pytest.raises(PriorDataError, match="no FLAME group in 1"):
        read_renderme([path])


# --- shards ---


def _labels(side: int = RIGHT, **changes: Any) -> Labels:
    jaw = np.array([[9, 9, 9], [0.3, 0.1, 0.2]], np.float32)
    values: dict[str, Any] = {
        "hand_side": np.array([side], np.uint8),
        "hand_pose": np.full((15, 3), 0.5, np.float32),
        "hand_betas": np.arange(10, dtype=np.float32),
        "head_pose": jaw,
        "head_expression": np.zeros(50, np.float32),
        "head_betas": np.ones(100, np.float32),
        "hand_model": "mano",
        "head_model": "flame-decaf",
    }
    return Labels(**(values | changes))


def test_labels_of_samples_left_hands_mirrored() -> None:
    found = collect_labels("set", [_labels(), _labels(LEFT), Labels()])
    assert found.hand_pose is not None and found.head_jaw is not None
    assert found.hand_pose[0].tolist() == [0.5] * 45
    assert found.hand_pose[1].tolist() == [0.5, -0.5, -0.5] * 15
    np.testing.assert_allclose(found.head_jaw[0], [0.3, 0.1, 0.2])
    assert found.hand_model == "mano" and found.head_model == "flame-decaf"
    with pytest.raises(PriorDataError, match="no sample has body parameters"):
        collect_labels("set", [Labels()])
    with pytest.raises(PriorDataError, match=r"different bodies, hand_model is one of free-hand, mano"):
        collect_labels("set", [_labels(), _labels(hand_model="free-hand")])


def test_shards(tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    from dataclasses import replace

    samples = []
    for seed in range(3):
        sample = make_sample(seed, side=32, depth=False)
        samples.append(replace(sample, labels=_labels(hand_betas=np.full(10, seed, np.float32))))
    (tmp_path / "a").mkdir()
    write_tar(tmp_path / "a" / "part-0.tar", samples[:2])
    write_tar(tmp_path / "a" / "part-1.tar", samples[2:])
    found = read_parameters(str(tmp_path / "a"))
    assert found.hand_betas is not None and found.hand_betas[:, 0].tolist() == [0, 1, 2]
    with pytest.raises(FileNotFoundError, match="no shards, parameter file"):
        read_shards(str(tmp_path / "nothing"))
    write_tar(tmp_path / "bad.tar", [("k", {"jpg": b"x", "json": b"{}", "safetensors": b"broken"})])
    with pytest.raises(PriorDataError, match=r"bad\.tar: sample k:"):
        read_shards(str(tmp_path / "bad.tar"))


def test_faces_beside_left_hands_are_mirrored_as_the_network_sees_them() -> None:
    """The same face beside either hand: real samples of the left one are the mirror image, coefficient by coefficient."""
    import torch

    from handface.model.bodies.mirror import mirror_head_parameters
    from tests.trainers.labelled import HEAD, labels_3d

    labels = [labels_3d(3, side=side) for side in (RIGHT, LEFT)]
    found = collect_labels("here", labels)
    right, left = found.heads()
    values = (labels[0].head_betas, labels[0].head_expression, labels[0].head_pose.ravel())
    betas, expression, pose = mirror_head_parameters(HEAD, *(torch.from_numpy(v)[None] for v in values), (1, 2, 3, 4))
    expected = torch.cat([pose[0, 3:6], expression[0], betas[0]]).numpy()
    np.testing.assert_allclose(left, expected, atol=1e-6)
    assert np.abs(left - right).max() > 1e-3
