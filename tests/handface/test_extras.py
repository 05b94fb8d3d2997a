"""What a plain install leaves out is named with the extra that brings it, before anything is written."""

from __future__ import annotations

import ast
import builtins
import re
import sys
import tomllib
from pathlib import Path

import pytest

from handface.extras import extra, require
from handface.jobs.cli import main
from tests.pipeline.images import encode, photo

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ROOMS = ("handface", "jobs", "model", "pipeline", "trainers")


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if the packages were not installed."""
    for package in packages:
        for module in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, package, None)


def test_a_missing_package_is_named_with_its_extra_and_others_pass() -> None:
    said = r"^a HEIC photo needs the package absent_thing: pip install 'handface\[heic\]'$"
    with pytest.raises(ImportError, match=said), extra("heic", "a HEIC photo"):
        import absent_thing.inner  # noqa: F401
    with pytest.raises(ZeroDivisionError), extra("heic", "a HEIC photo"):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("package", "name", "flags"),
    [
        ("onnxruntime", "onnxruntime", ["--nsfw.threshold", "0.8"]),
        ("onnxruntime", "onnxruntime", ["--depth.fastdepth"]),
        ("onnxruntime", "onnxruntime", ["--keypoints.checkpoint", "pose.onnx"]),
        ("transformers", "depth", ["--depth.depth-anything", "weights"]),
        ("huggingface_hub", "depth", ["--depth.depth-anything", "owner/name"]),
    ],
)
def test_annotate_names_the_extra_and_writes_nothing(package, name, flags, tmp_path, monkeypatch, capsys) -> None:
    without(monkeypatch, package)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.jpg").write_bytes(encode(photo()))
    (tmp_path / "pose.onnx").write_bytes(b"")
    (tmp_path / "weights").mkdir()
    assert main(["annotate", "--local", "--input", "good.jpg", *flags, "--output", "parts"]) == 2
    assert f"pip install 'handface[{name}]'" in capsys.readouterr().err
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--detect.annotator", "mediapipe"], "annotator mediapipe: mediapipe"),
        (["--detect.detector.runtime.name", "litert"], "runtime litert is not installed"),
    ],
)
def test_annotate_says_before_it_starts_that_a_detector_cannot_run(flags, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("handface.pipeline.annotators.mediapipe.find_spec", lambda name: None)
    monkeypatch.setattr("handface.pipeline.annotators.networks.runtime.find_spec", lambda name: None)
    (tmp_path / "good.jpg").write_bytes(encode(photo()))
    output = tmp_path / "parts"
    assert main(["annotate", "--local", "--input", str(tmp_path), *flags, "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not output.exists()


@pytest.mark.parametrize("verb", [["predict"], ["annotate", "--local", "--input"]])
def test_an_opencv_that_does_not_load_names_the_packages_of_the_system(verb, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "good.jpg").write_bytes(encode(photo()))
    output = tmp_path / "out"

    def fail(name, *rest, real=builtins.__import__):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fail)
    assert main([*verb, str(tmp_path / "good.jpg"), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert "libGL.so.1" in error and "apt-get install libgl1 libglib2.0-0" in error
    assert not list(output.glob("*"))


def test_training_goes_on_without_tensorboard(tmp_path, monkeypatch, caplog) -> None:
    from handface.trainers.run_folder.log import RunLog

    without(monkeypatch, "tensorboard", "torch.utils.tensorboard")
    with caplog.at_level("INFO", "handface"), RunLog(str(tmp_path), steps=2, done=0) as log:
        log.scalars(1, {"loss": 2.0}, samples=1, world=1)
        log.picture(1, "batch", photo())
    assert "pip install 'handface[tensorboard]'" in caplog.text
    assert '"loss": 2.0' in (tmp_path / "log.jsonl").read_text()
    assert not (tmp_path / "tensorboard").exists()


def test_every_extra_that_a_message_names_exists_and_is_documented() -> None:
    named: set[str] = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "extra":
                named.add(node.args[0].value)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= set(re.findall(r"handface\[(\w+)\]'", node.value)) - {"name"}
    assert {"heic", "depth", "onnxruntime", "rerun"} <= named <= set(EXTRAS)
    page = (ROOT / "docs" / "install.md").read_text()
    assert set(re.findall(r"`(\w+)`", page.partition("## Extras")[2])) >= set(EXTRAS)


def test_developers_have_every_extra_that_installs_here() -> None:
    (ours,) = [line for line in EXTRAS["dev"] if line.startswith("handface[")]
    assert set(re.findall(r"\w+", ours)) - {"handface"} == set(EXTRAS) - {"dev", "gs", "mmpose", "openvino", "wandb"}


def test_what_is_required_is_looked_for_without_an_import(monkeypatch) -> None:
    require("s3", "s3://", "json")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ImportError, match=r"s3:// needs the package s3fs: pip install 'handface\[s3\]'"):
        require("s3", "s3://", "s3fs")


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("hf", "huggingface_hub")])
def test_storage_names_its_extra(scheme, package, monkeypatch, capsys) -> None:
    from fsspec.registry import _registry

    # a class that was loaded before
    monkeypatch.delitem(_registry, scheme, raising=False)
    without(monkeypatch, package)
    assert main(["validate", f"{scheme}://bucket/part-0.tar"]) == 2
    error = capsys.readouterr().err
    assert f"pip install 'handface[{scheme}]'" in error and len(error.strip().splitlines()) == 1, error
