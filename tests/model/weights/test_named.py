from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from handface.model.bodies import BodyFileError
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.model.weights import named
from handface.model.weights.checkpoint import is_trained, save_dice
from handface.model.weights.named import load_network
from handface.model.weights.unpickle import WeightsError


@pytest.fixture(scope="module")
def nano() -> Dice:
    return Dice.from_preset("dice-nano", Topology.from_bodies()).eval()


@pytest.fixture
def folder(nano, tmp_path):
    return save_dice(nano, tmp_path / "nano")


def test_a_preset_without_a_checkpoint_is_fresh_untrained_and_always_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(named, "EMBEDDED", tmp_path)
    state = torch.get_rng_state()
    first = load_network("dice-nano")
    assert torch.equal(state, torch.get_rng_state())  # the caller's own randomness is left alone
    torch.rand(5)
    second = load_network("dice-nano").network
    assert not first.trained and not first.network.training
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize("trained", [True, False])
def test_a_folder_or_its_file_gives_the_weights_and_says_whether_they_were_trained(nano, tmp_path, trained):
    folder = save_dice(nano, tmp_path / "c", trained=trained)
    assert is_trained(folder) is trained
    for name in (folder, str(folder), folder / "model.safetensors"):
        loaded = load_network(name)
        assert loaded.trained is trained
        assert all(torch.equal(a, b) for a, b in zip(nano.parameters(), loaded.network.parameters(), strict=True))


def test_an_embedded_checkpoint_is_what_its_preset_means(nano, tmp_path, monkeypatch):
    monkeypatch.setattr(named, "EMBEDDED", tmp_path)
    save_dice(nano, tmp_path / "dice-nano", trained=True)
    assert load_network("dice-nano").trained
    assert load_network("dice-nano").source == str(tmp_path / "dice-nano")


@pytest.mark.parametrize(
    ("name", "hint"), [("dice-xxl", "did you mean dice-s"), ("out/absent", "there are dice-w64, dice-s")]
)
def test_an_unknown_name_is_answered_with_what_there_is(name, hint):
    with pytest.raises(WeightsError, match=rf"no such preset, folder or file; .* or a preset: {hint}"):
        load_network(name)


def test_a_file_that_is_no_checkpoint_says_how_to_make_one(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match="handface weights import"):
        load_network(tmp_path / "model.bin")


def test_missing_extra_and_mismatched_keys_are_named(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["mix.bias"]
    tensors["surplus"] = torch.zeros(1)
    tensors["camera.out.weight"] = torch.zeros(4, 4)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_network(folder)
    for part in ("1 keys missing: mix.bias", "1 keys not expected: surplus", "camera.out.weight (4, 4) instead of"):
        assert part in str(caught.value)


def test_a_folder_without_or_with_a_broken_configuration_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["sizes"]["hand"]["betas"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"(?s)config\.json.*hand\.betas"):
        load_network(folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"no config\.json"):
        load_network(folder)


def test_a_damaged_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="damaged"):
        load_network(folder)


def test_bodies_that_cannot_be_read_are_named(folder):
    with pytest.raises(BodyFileError, match=r"absent\.npz: no such file"):
        load_network(folder, "absent.npz", "free-head")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('{"steps": 3000, "metric": "pve", "error": 22.114}', "trained for 3,000 steps, validation pve 22.1"),
        (
            '{"steps": 4, "metric": null, "error": null}',
            "trained for 4 steps without validation: nobody knows how good it is",
        ),
        ('{"steps": 3000}', ""),
        ("[1]", ""),
        ("{", ""),
        (None, ""),
    ],
)
def test_the_trainers_note_is_read_if_there_is_one(folder, text, note):
    if text is not None:
        (folder / "training.json").write_text(text)
    assert load_network(folder).note == note


def test_a_few_steps_from_random_weights_count_as_untrained(nano, tmp_path):
    folder = save_dice(nano, tmp_path / "run", trained=True)
    note = {"steps": 4, "metric": None, "error": None, "from_random": True}
    (folder / "training.json").write_text(json.dumps(note))
    loaded = load_network(folder)
    assert not loaded.trained and loaded.note == "trained for 4 steps from random weights: as good as untrained"
    for other in ({"steps": 1500}, {"from_random": False}):
        (folder / "training.json").write_text(json.dumps(note | other))
        assert load_network(folder).trained


def test_the_folder_of_a_run_is_answered_with_where_its_weights_are(nano, tmp_path):
    save_dice(nano, tmp_path / "run" / "best")
    (tmp_path / "run" / "config.json").write_text('{"preset": "dice-nano", "steps": 3}')
    with pytest.raises(WeightsError, match=r"run is the folder of a run; its weights are in .*best"):
        load_network(tmp_path / "run")
