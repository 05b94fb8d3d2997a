"""ONNX export, its check, and the `weights` verb."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from handface.jobs.cli import main
from handface.model.network.deploy import export
from handface.model.network.deploy.export import (
    OnnxExportError,
    as_output,
    compare,
    example,
    export_onnx,
    onnx_session,
    openvino_session,
    worst_of,
)
from handface.model.network.deploy.fold import fold
from handface.model.weights.checkpoint import save_dice
from handface.model.weights.convert import convert
from handface.model.weights.unpickle import WeightsError
from tests.model.network.test_dice import alive, pictures
from tests.model.reference_dice import NETWORK, save_released
from tests.model.weights.test_weights import NARROW, read_narrow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = alive()
    path = tmp_path_factory.mktemp("onnx") / "deep" / "dice.onnx"
    return model, path, export_onnx(model, path)


def test_the_file_agrees_at_every_batch_size(exported):
    model, path, errors = exported
    assert max(errors.values()) < 1e-4
    session = onnx_session(path, threads=1)
    for batch in (1, 4):
        images = pictures(batch)
        with torch.no_grad():
            expected = model(images)
        found = as_output(session(images.numpy()))
        torch.testing.assert_close(found.head.deformed, expected.head.deformed, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.hand.parameters.pose, expected.hand.parameters.pose, rtol=1e-4, atol=1e-4)
    with torch.no_grad():  # the gate is inside the file
        gated = as_output(session(pictures(4).numpy()))
    assert ((gated.head.deformation[0] == 0).flatten(1).all(1) == (gated.presence <= 0.5)).all()
    assert (gated.presence <= 0.5).sum() == 2


def test_a_file_that_disagrees_is_not_kept(tmp_path):
    with pytest.raises(OnnxExportError, match="is off by"):
        export_onnx(alive(), tmp_path / "dice.onnx", tolerance=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_run_is_not_kept(tmp_path, monkeypatch):
    (tmp_path / "dice.onnx").write_bytes(b"an earlier file")

    def broken(path, threads=0):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(export, "onnx_session", broken)
    with pytest.raises(RuntimeError, match="no such operator"):
        export_onnx(alive(), tmp_path / "dice.onnx")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an earlier file"]


@pytest.mark.parametrize("errors", [{"a": 1e-9, "b": math.nan}, {"b": math.nan, "a": 1.0}, {"c": math.nan, "b": 0.0}])
def test_an_output_that_is_no_number_is_the_worst(errors):
    assert math.isnan(errors[worst_of(errors)])
    assert worst_of({"a": 1.0, "b": 2.0}) == "b"


def test_compare_sees_a_difference(exported):
    model, path, _ = exported
    session = onnx_session(path)
    (images,) = example(model, 2)

    def wrong(batch: np.ndarray) -> dict[str, np.ndarray]:
        return session(batch) | {"camera": session(batch)["camera"] * 1.01}

    errors = compare(fold(model), wrong, images)
    assert errors["camera"] == pytest.approx(0.01, rel=0.01) and errors["hand_betas"] < 1e-4


def test_openvino_agrees_or_says_how_to_get_it(exported):
    model, path, _ = exported
    try:
        import openvino  # noqa: F401
    except ImportError:
        with pytest.raises(OnnxExportError, match=r"pip install 'handface\[openvino\]'"):
            openvino_session(path)
    else:
        errors = compare(fold(model), openvino_session(path, "fp32"), pictures(4))
        assert max(errors.values()) < 1e-3


def test_the_verb_imports_describes_and_exports(tmp_path, capsys):
    torch.manual_seed(0)
    file = save_released(NETWORK(NARROW), tmp_path / "model.bin")
    assert main(["weights", "import", str(file), "--output", str(tmp_path / "dice")]) == 2
    assert "only the release's transform files say which" in capsys.readouterr().err
    said = convert(file, tmp_path / "dice").text()
    assert "0 missing" in said and "classifier of the ImageNet net" in said and "no template" in said
    assert main(["weights", "info", str(tmp_path / "dice")]) == 0
    said = capsys.readouterr().out
    assert "MANO  vertices (40, 11)" in said and "not in the file" in said
    assert main(["weights", "export", str(tmp_path / "dice"), "--output", str(tmp_path / "x.onnx")]) == 2
    assert "has no template; give the hand and head bodies" in capsys.readouterr().err
    assert main(["weights", "import", str(file), "--output", str(tmp_path / "d"), "--hand-model", "mano.npz"]) == 2
    assert "give --hand-model, --head-model" in capsys.readouterr().err
    (tmp_path / "bad.bin").write_text("x")
    with pytest.raises(WeightsError, match=r"not a file of torch\.save"):
        convert(tmp_path / "bad.bin", tmp_path / "d")

    save_dice(alive(), tmp_path / "narrow")
    assert main(["weights", "export", str(tmp_path / "narrow"), "--output", str(tmp_path / "x.onnx")]) == 0
    assert (tmp_path / "x.onnx").stat().st_size > 1000 and "largest relative error" in capsys.readouterr().out
    said = main(["weights", "info", "dice-nano"]), capsys.readouterr().out
    assert said[0] == 0 and "preset      dice-nano" in said[1] and "in the file" in said[1]
    assert main(["weights", "info", "dice-s"]) == 2
    assert "dice-s comes without trained weights" in capsys.readouterr().err


@pytest.mark.parametrize("error", [0.04, 0.06])
def test_an_export_that_openvino_runs_wrongly_fails(tmp_path, capsys, monkeypatch, error):
    save_dice(alive(), tmp_path / "narrow")

    def off_by(path, precision):
        session = onnx_session(path)
        return lambda images: {name: value + error * np.abs(value).max() for name, value in session(images).items()}

    monkeypatch.setattr("handface.model.network.deploy.export.openvino_session", off_by)
    command = [
        "weights",
        "export",
        str(tmp_path / "narrow"),
        "--output",
        str(tmp_path / "x.onnx"),
        "--openvino",
        "bf16",
    ]
    assert main(command) == (0 if error < 0.05 else 2)
    assert ("do not run it so" in capsys.readouterr().err) == (error > 0.05)


def test_released_topology_reads_the_selection_of_vertices(tmp_path):
    """On the free bodies, with transforms that select every fourth and third vertex."""
    from handface.model.bodies import load_body
    from handface.model.network.topology import TopologyError
    from handface.model.weights.released_topology import released_topology
    from handface.model.weights.unpickle import WeightsError

    hand, head = load_body("free-hand", "decaf"), load_body("free-head", "decaf")

    def select(count: int, every: int) -> torch.Tensor:
        rows = torch.arange(0, count, every)
        index = torch.stack([torch.arange(len(rows)), rows])
        ones = torch.ones(len(rows), dtype=torch.float64)
        return torch.sparse_coo_tensor(index, ones, (len(rows), count), check_invariants=True)

    torch.save({"D": [select(hand.num_vertices, 4)]}, tmp_path / "hand.pt")
    first = select(head.num_vertices, 3)
    torch.save({"D": [first, select(first.shape[0], 3)], "U": [], "A": [], "F": []}, tmp_path / "head.pt")
    topology = released_topology("free-hand", "free-head", tmp_path / "hand.pt", tmp_path / "head.pt")
    rest = hand().vertices[0].double().numpy()
    np.testing.assert_allclose(topology.hand.coarse, rest[::4])
    np.testing.assert_allclose(topology.head.coarse, head().vertices[0].double().numpy()[::3][::3])
    assert topology.sizes.hand.keep == (tuple(range(0, hand.num_vertices, 4)),)
    assert topology.sizes.head.keep[1] == tuple(range(0, head.num_vertices, 9))
    np.testing.assert_allclose(topology.hand.keypoints[[4, 8, 12, 16, 20]], rest[[745, 317, 445, 556, 673]])
    np.testing.assert_allclose(topology.hand.keypoints[1], hand().joints[0, 13].double().numpy())  # thumb after wrist
    with pytest.raises(TopologyError, match=r"hand MANO but was given free-hand: vertices \(40, 11\) != \(1609, 403\)"):
        read_narrow().sizes.require(topology.sizes)
    with pytest.raises(WeightsError, match=r"D\[0\] does not take the 1609 vertices"):
        released_topology("free-hand", "free-head", tmp_path / "head.pt", tmp_path / "head.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(WeightsError, match="not a mesh transform file"):
        released_topology("free-hand", "free-head", tmp_path / "junk.pt", tmp_path / "head.pt")
