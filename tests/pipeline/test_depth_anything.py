import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotators.depth_anything import DepthAnything, network_shape, preprocess
from pipeline.model_store import file_sha256
from tests.pipeline.images import photo


def save_tiny(folder, kind: str = "relative") -> None:
    """A Depth Anything with random weights and 0.1 M parameters, saved as transformers saves it."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 16, 24, 32],
        fusion_hidden_size=16,
        head_hidden_size=8,
        patch_size=14,
        depth_estimation_type=kind,
        max_depth=20,
    )
    DepthAnythingForDepthEstimation(config).eval().save_pretrained(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth")
    save_tiny(folder)
    return folder


IMAGES = [photo(200, 150, 1), photo(150, 200, 2), photo(200, 150, 3), photo(160, 160, 4)]


def test_a_saved_checkpoint_gives_the_models_own_answer(checkpoint):
    from transformers import DepthAnythingForDepthEstimation

    annotator = DepthAnything(str(checkpoint), side=70, runtime="torch")
    maps = annotator.annotate(IMAGES)
    assert [m.shape for m in maps] == [i.shape[:2] for i in IMAGES] and all(m.dtype == np.float32 for m in maps)
    model = DepthAnythingForDepthEstimation.from_pretrained(checkpoint).eval()
    pixels = torch.from_numpy(preprocess(IMAGES[3], (70, 70)))[None]
    with torch.inference_mode():
        expected = model(pixels).predicted_depth[0].numpy()
    import cv2

    assert maps[3] == pytest.approx(cv2.resize(expected, (160, 160), interpolation=cv2.INTER_CUBIC), abs=1e-5)


def test_batching_by_shape_changes_nothing(checkpoint):
    annotator = DepthAnything(str(checkpoint), side=70, runtime="torch")
    alone = [annotator.annotate([image])[0] for image in IMAGES]
    for one, together in zip(alone, annotator.annotate(IMAGES), strict=True):
        assert one == pytest.approx(together, abs=1e-5)


def test_preprocessing_is_that_of_the_transformers_processor():
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

    processor = DPTImageProcessorPil(
        size={"height": 518, "width": 518},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    for image in (photo(512, 512), photo(640, 480), photo(300, 500)):
        expected = processor(image, return_tensors="np").pixel_values[0]
        shape = network_shape(*image.shape[:2], 518)
        assert expected.shape == (3, *shape)
        assert np.abs(preprocess(image, shape) - expected).max() < 0.02


@given(st.integers(50, 4000), st.integers(50, 4000), st.sampled_from([392, 518]))
def test_network_shapes_are_multiples_of_the_patch_and_keep_the_aspect(height, width, side):
    h, w = network_shape(height, width, side)
    assert h % 14 == 0 and w % 14 == 0 and min(h, w) == side
    assert abs(h / w - height / width) < 0.06 * max(1, height / width)


def test_metric_checkpoints_are_metric_and_the_hash_is_the_files(checkpoint, tmp_path):
    save_tiny(tmp_path, "metric")
    annotator = DepthAnything(str(tmp_path), side=70)
    assert annotator.kind == "metric" and DepthAnything(str(checkpoint)).kind == "affine-inverse"
    (record,) = annotator.records()
    assert record.weights_sha256 == file_sha256(tmp_path / "model.safetensors") and record.task == "depth"


def test_wrong_checkpoints_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no/such/folder"):
        DepthAnything("./no/such/folder")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="bert"):
        DepthAnything(str(tmp_path))
    with pytest.raises(ValueError, match="multiple of 14"):
        DepthAnything(str(tmp_path), side=500)


def test_a_local_folder_needs_no_network(checkpoint, monkeypatch):
    import socket

    def closed(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", closed)
    assert "HF_HUB_OFFLINE" not in os.environ
    assert DepthAnything(str(checkpoint), side=70, runtime="torch").annotate(IMAGES[:1])[0].shape == (150, 200)
