import pytest

import handface.pipeline.contract.model_store as model_store
from handface.jobs.models import Config, run
from handface.pipeline.contract.model_store import ModelError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDFACE_MODELS", str(tmp_path))
    return tmp_path


def test_list_names_every_model_and_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # a narrow terminal must not cut names
    assert run(Config()) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in model_store.models())
    assert "handface models pull fastdepth" in shown and "Apache-2.0" in shown


def test_verify_finds_installed_models_good_and_named_absent_ones_missing(capsys):
    assert run(Config("verify")) == 0
    assert "mediapipe-hand-landmarks:" in capsys.readouterr().out
    assert run(Config("verify", ("selfie-multiclass",))) == 1


def test_a_file_with_other_bytes_fails_and_is_named(empty_folder, capsys):
    (empty_folder / "fastdepth_7.onnx").write_bytes(b"other")
    assert run(Config("verify", ("fastdepth",))) == 1
    assert "expected 6275c23f" in capsys.readouterr().out.replace("\n", "")


def test_pull_goes_on_past_what_cannot_be_had(monkeypatch, capsys):
    monkeypatch.setattr(model_store, "_download", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    assert run(Config("pull", ("fastdepth", "mediapipe-hand-landmarks"))) == 1
    shown = capsys.readouterr().out
    assert "no network" in shown and "hand_landmark_full.tflite" in shown


def test_an_unknown_name_is_refused():
    with pytest.raises(ModelError, match="no model 'nonsense'"):
        run(Config("pull", ("nonsense",)))
