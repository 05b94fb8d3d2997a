"""Compiled networks are read back as they were, made anew when a file is not whole, and done without where there is no cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handface.model.network.openvino_import import openvino_core
from handface.pipeline.annotators.networks import compiled
from handface.pipeline.annotators.networks.mediapipe import open_network
from handface.pipeline.annotators.networks.runtime import Network, RuntimeConfig
from handface.pipeline.contract.model_store import ModelStore

NAME, MODELS = "mediapipe-face-detection-short", ModelStore()


class Core:
    """OpenVINO's, which notes what it is asked to compile."""

    def __init__(self) -> None:
        self.compiled = 0

    def compile_model(self, *given):
        self.compiled += 1
        return openvino_core().compile_model(*given)

    def __getattr__(self, name: str):
        return getattr(openvino_core(), name)


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Core:
    monkeypatch.setenv("HANDFACE_MODELS", str(MODELS.path(NAME).parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    watched = Core()
    monkeypatch.setattr(compiled, "openvino_core", lambda: watched)
    return watched


def answer() -> dict[str, np.ndarray]:
    return open_network(NAME)(np.random.default_rng(3).random((2, 128, 128, 3), np.float32))


def test_a_network_is_compiled_once_and_answers_the_same(core: Core, tmp_path: Path) -> None:
    first, second = answer(), answer()
    assert core.compiled == 1 and len(list((tmp_path / "handface" / "networks").iterdir())) == 1
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_other_outputs_are_another_network(core: Core) -> None:
    whole = open_network(NAME)
    part = open_network(NAME, outputs=whole.outputs[:1])
    assert core.compiled == 2
    pixels = np.zeros((1, 128, 128, 3), np.float32)
    assert list(part(pixels)) == list(whole.outputs[:1]) != list(whole(pixels))


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_file_that_is_not_whole_is_made_anew(core: Core, tmp_path: Path, damage: bytes | None) -> None:
    first = answer()
    (file,) = (tmp_path / "handface" / "networks").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-7] if damage is None else damage)
    again = answer(), answer()
    assert core.compiled == 2, "once more, and then it is whole again"
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[0][name])


def test_without_a_cache_networks_are_compiled_each_time(core: Core, tmp_path: Path) -> None:
    (tmp_path / "handface").write_text("a file where the folder would be")
    answer(), answer()
    assert core.compiled == 2


def test_a_user_without_a_home_has_no_cache(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    network = Network(MODELS.path(NAME))
    assert core.compiled == 1 and set(network(np.zeros((1, 128, 128, 3), np.float32))) == set(network.outputs)


def test_another_runtime_keeps_nothing(core: Core, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    open_network(NAME, RuntimeConfig("onnxruntime"))
    assert not (tmp_path / "handface" / "networks").exists()
