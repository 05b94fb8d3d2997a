"""Depth Anything on a tiny checkpoint of random weights, FastDepth on its real ones."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.pipeline.annotators.depth_anything import (
    DepthAnything,
    DepthAnythingConfig,
    DepthWeightsError,
    Preprocessing,
    read_preprocessing,
    upsample,
)
from handface.pipeline.annotators.fastdepth import FastDepth
from handface.pipeline.contract.model_store import ModelStore, file_sha256, models
from tests.pipeline.annotators.reference_depth_anything import DepthAnythingReference
from tests.pipeline.annotators.tiny_depth_anything import tiny_model, write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("depth-anything"))


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a local checkpoint must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def pictures() -> list[np.ndarray]:
    noise = np.random.default_rng(1)
    coarse = [
        noise.integers(0, 256, (h // 8, w // 8, 3), dtype=np.uint8)
        for h, w in [(96, 96), (64, 160), (96, 96), (200, 88)]
    ]
    return [np.kron(image, np.ones((8, 8, 1), np.uint8)) for image in coarse]


def test_equal_to_the_transformers_processor_and_model(checkpoint, offline):
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

    processor = DPTImageProcessorPil.from_pretrained(checkpoint)
    annotator = DepthAnything(DepthAnythingConfig(str(checkpoint), backend="torch", batch_size=2))
    assert annotator.kind == "affine-inverse"
    model = tiny_model()
    images = pictures()
    maps = annotator.annotate(images)
    for image, depth in zip(images, maps, strict=True):
        inputs = processor(images=image, return_tensors="pt")
        ours = annotator.preprocess(image)
        assert ours.shape == tuple(inputs["pixel_values"].shape[1:])
        np.testing.assert_allclose(ours, inputs["pixel_values"][0].numpy(), atol=1e-5)
        with torch.inference_mode():
            outputs = model(**inputs)
        size = image.shape[:2]
        theirs = processor.post_process_depth_estimation(outputs, target_sizes=[size])[0]["predicted_depth"]
        assert depth.shape == size and depth.dtype == np.float32
        np.testing.assert_allclose(depth, theirs.numpy(), atol=1e-5)
        assert depth.std() > 0


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (512, 512), (100, 1000), (333, 77), (5, 2000)])
def test_network_size_is_the_processors(height, width):
    from transformers.image_utils import SizeDict
    from transformers.models.dpt.image_processing_pil_dpt import get_resize_output_image_size

    want = get_resize_output_image_size(np.zeros((3, height, width)), (518, 518), True, 14)
    assert isinstance(want, SizeDict)
    assert Preprocessing().network_size(height, width) == (max(14, want.height), max(14, want.width))


def test_metric_checkpoints_say_so_and_records_name_the_weights(tmp_path):
    tiny_model(depth_estimation_type="metric", max_depth=20).save_pretrained(tmp_path)
    annotator = DepthAnything(DepthAnythingConfig(str(tmp_path), backend="torch"))
    assert annotator.kind == "metric" and annotator.preprocess == Preprocessing()
    (record,) = annotator.records()
    assert record.weights_sha256 == file_sha256(tmp_path / "model.safetensors") and record.task == "depth"
    depth = annotator.annotate([np.zeros((56, 56, 3), np.uint8)])[0]
    assert depth.min() >= 0 and depth.max() <= 20.1


def test_checkpoints_that_cannot_be_used_are_refused(tmp_path, checkpoint):
    def refused(match: str, folder=tmp_path) -> None:
        with pytest.raises(DepthWeightsError, match=match):
            DepthAnything(DepthAnythingConfig(str(folder), backend="torch"))

    refused("neither a folder, nor a .pth file", tmp_path / "absent" / "deep")
    refused("no readable config.json")
    (tmp_path / "config.json").write_text('{"model_type": "dpt"}')
    refused("expected 'depth_anything'")
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    refused("model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"truncated")
    refused("cannot be read")
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    weights.pop("head.conv1.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    refused("lacks 1 weights")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 70}}))
    with pytest.raises(DepthWeightsError, match="preprocessor_config"):
        read_preprocessing(tmp_path)


def test_batching_by_shape_changes_nothing(checkpoint):
    annotator = DepthAnything(DepthAnythingConfig(str(checkpoint), backend="torch", side=56))
    together = annotator.annotate(pictures())
    for image, depth in zip(pictures(), together, strict=True):
        np.testing.assert_allclose(annotator.annotate([image])[0], depth, atol=1e-5)
    with pytest.raises(ValueError, match="multiple of 14"):
        DepthAnything(DepthAnythingConfig(str(checkpoint), side=60))


def test_upsampling_has_its_pixel_centres_at_half_integers():
    plane = np.add.outer(np.arange(20.0), np.arange(30.0)).astype(np.float32)
    large = upsample(plane, (80, 120))
    want = np.add.outer((np.arange(80) + 0.5) / 4 - 0.5, (np.arange(120) + 0.5) / 4 - 0.5)
    np.testing.assert_allclose(
        large[8:-8, 8:-8], want[8:-8, 8:-8], atol=0.1
    )  # torch's bicubic kernel bends a plane a little


def test_openvino_agrees_with_torch(checkpoint):
    if torch.backends.mkldnn.is_available() and _has_openvino():
        eager = DepthAnything(DepthAnythingConfig(str(checkpoint), backend="torch"))
        auto = DepthAnything(DepthAnythingConfig(str(checkpoint)))
        assert auto.backend == "openvino" and "bf16" in auto.records()[0].version
        images = pictures()[:2]  # of two shapes: each takes seconds to convert
        for a, b in zip(eager.annotate(images), auto.annotate(images), strict=True):
            assert np.abs(a - b).max() <= 0.05 * np.abs(a).max()
    else:
        assert DepthAnything(DepthAnythingConfig(str(checkpoint))).backend == "torch"
        with pytest.raises(DepthWeightsError, match=r"handface\[openvino\]"):
            DepthAnything(DepthAnythingConfig(str(checkpoint), backend="openvino"))


def _has_openvino() -> bool:
    from importlib.util import find_spec

    return find_spec("openvino") is not None


def test_fastdepth_sees_the_wall_behind_the_astronaut():
    skimage_data = pytest.importorskip("skimage.data")
    network = FastDepth(ModelStore().path("fastdepth"))
    image = skimage_data.astronaut()
    small, large = network.annotate([image[:300], image])
    assert small.shape == (300, 512) and large.shape == (512, 512) and large.dtype == np.float32
    assert large[:60, 420:].mean() > 1.3 * large[300:450, 150:300].mean() > 0
    (record,) = network.records()
    assert record.name == "fastdepth" and record.weights_sha256 == models()["fastdepth"].sha256
    assert network.kind == "affine"


def test_a_file_that_is_not_fastdepth_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"\x08\x07corrupt")
    with pytest.raises(ValueError, match=r"x\.onnx is no readable"):
        FastDepth(tmp_path / "x.onnx")


ORIGINALS = [
    ("depth_anything_v2_vits.pth", [3, 6, 9, 12], None),
    ("depth_anything_vits14.pth", [9, 10, 11, 12], None),
    ("depth_anything_v2_metric_hypersim_vits.pth", [3, 6, 9, 12], 20.0),
]


@pytest.mark.parametrize(("name", "taken", "metres"), ORIGINALS)
def test_the_authors_own_files_give_what_their_network_gives(tmp_path, offline, name, taken, metres):
    reference = DepthAnythingReference(taken, metres=metres).eval()
    with torch.no_grad():
        # a disparity that is not 0 everywhere
        reference.depth_head.scratch.output_conv2[2].bias.fill_(0.3)
    torch.save(reference.state_dict(), tmp_path / name)
    network = DepthAnything(DepthAnythingConfig(str(tmp_path / name), backend="torch", side=70))
    assert network.kind == ("metric" if metres else "affine-inverse")
    image = np.random.default_rng(3).integers(0, 256, (70, 70, 3), dtype=np.uint8)
    pixels = torch.from_numpy(network.preprocess(image))[None]
    with torch.no_grad():
        want = reference(pixels)[0].numpy()
    assert np.ptp(want) > 1e-3
    np.testing.assert_allclose(network.annotate([image])[0], want, atol=1e-5)
    (record,) = network.records()
    assert record.weights_sha256 == file_sha256(tmp_path / name)


def test_the_authors_resizing_keeps_no_side_below_the_networks(tmp_path):
    torch.save(DepthAnythingReference([3, 6, 9, 12]).state_dict(), tmp_path / "depth_anything_v2_vits.pth")
    sizes = {
        resize: DepthAnything(
            DepthAnythingConfig(str(tmp_path / "depth_anything_v2_vits.pth"), backend="torch", resize=resize)
        ).preprocess.network_size(200, 400)
        for resize in ("auto", "lower_bound", "closest")
    }
    assert sizes == {"auto": (518, 1036), "lower_bound": (518, 1036), "closest": (252, 518)}
    grey = Preprocessing(side=28, lower_bound=True)(np.full((40, 20, 3), 124, np.uint8))
    assert grey.shape == (3, 56, 28)
    np.testing.assert_allclose(grey[0], (124 / 255 - 0.485) / 0.229, atol=1e-5)


def test_other_files_are_named(tmp_path, offline):
    state = DepthAnythingReference([3, 6, 9, 12]).state_dict()
    wrong = {
        "depth_anything_v2_no.pth": ({"epoch": 3}, "holds a dict and not named tensors"),
        "depth_anything_v2_bad.pth": ({"a": torch.zeros(2)}, r"has no pretrained\.patch_embed\.proj\.weight"),
        "depth_anything_v2_cut.pth": (
            {name: value for name, value in state.items() if "refinenet2" not in name},
            "10 weights are missing, first neck.fusion_stage.layers.2",
        ),
        "mine.pth": (state, r"mine\.pth: its name does not tell V1 from V2"),
    }
    for name, (content, message) in wrong.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(DepthWeightsError, match=message):
            DepthAnything(DepthAnythingConfig(str(tmp_path / name)))
    (tmp_path / "depth_anything_v2_junk.pth").write_bytes(b"junk")
    with pytest.raises(DepthWeightsError, match="cannot be read as tensors"):
        DepthAnything(DepthAnythingConfig(str(tmp_path / "depth_anything_v2_junk.pth")))
    with pytest.raises(DepthWeightsError, match="there is no such file"):
        DepthAnything(DepthAnythingConfig(str(tmp_path / "none.pth")))


def test_a_file_that_runs_code_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"pretrained.cls_token": Runs()}, tmp_path / "depth_anything_v2_vits.pth")
    with pytest.raises(DepthWeightsError, match="cannot be read as tensors"):
        DepthAnything(DepthAnythingConfig(str(tmp_path / "depth_anything_v2_vits.pth")))
    assert not (tmp_path / "ran").exists()
