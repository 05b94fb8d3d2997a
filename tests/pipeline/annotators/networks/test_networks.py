"""Reading, conversion and runtimes, on the real files; regions and detection arithmetic on numbers."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from handface.pipeline.annotators import detector, selfie_segmenter
from handface.pipeline.annotators.detector import NETWORKS
from handface.pipeline.annotators.networks import runtime as runtimes
from handface.pipeline.annotators.networks.mediapipe import open_network
from handface.pipeline.annotators.networks.regions import NetworkPicture, Region, turned_region
from handface.pipeline.annotators.networks.runtime import Network, NetworkError, RuntimeConfig, check_runtime
from handface.pipeline.annotators.networks.ssd import decode, make_anchors, suppress
from handface.pipeline.annotators.networks.tflite import TfliteError, read_tflite
from handface.pipeline.contract.model_store import ModelStore

RUNTIMES = ("openvino", "onnxruntime", "litert")
RNG = np.random.default_rng(0)


def path(name: str):
    return ModelStore().path(name)


def network(name: str, runtime: str = "openvino") -> Network:
    pytest.importorskip({"litert": "ai_edge_litert"}.get(runtime, runtime))
    return Network(path(name), RuntimeConfig(runtime))


@pytest.mark.parametrize(
    "name", [name for name in (*NETWORKS, "selfie-multiclass") if name != "mediapipe-face-landmarks"]
)
def test_runtimes_agree(name):
    size = network(name).input_size
    pixels = RNG.random((2, size[1], size[0], 3), dtype=np.float32)
    answers = [network(name, runtime)(pixels) for runtime in RUNTIMES]
    for key, want in answers[2].items():  # LiteRT reads the file as it is, the others our ONNX of it
        for got in answers[:2]:
            assert got[key].shape == want.shape
            np.testing.assert_allclose(got[key], want, atol=1e-4 * max(1.0, float(np.abs(want).max())))


def test_the_face_mesh_runs_where_its_operators_are_known():
    pixels = RNG.random((2, 192, 192, 3), dtype=np.float32)
    one, other = (network("mediapipe-face-landmarks", runtime)(pixels) for runtime in RUNTIMES[:2])
    for key, want in one.items():
        np.testing.assert_allclose(other[key], want, atol=1e-3)
    with pytest.raises(NetworkError, match="choose openvino or onnxruntime"):
        network("mediapipe-face-landmarks", "litert")


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_do_not_depend_on_the_batch(name):
    run = network(name)
    pixels = RNG.random((3, run.input_size[1], run.input_size[0], 3), dtype=np.float32)
    together = run(pixels)
    for i in range(3):
        for key, values in run(pixels[i : i + 1]).items():
            assert np.array_equal(values[0], together[key][i])
    assert all(values.shape[0] == 0 for values in run(pixels[:0]).values())


def test_batches_on_one_device_call_agree_with_single_pictures():
    """As on a GPU, where the batch is real: the palms' layers must not be folded into each other."""
    run = network("mediapipe-palm-detection", "onnxruntime")
    pixels = RNG.random((3, 192, 192, 3), dtype=np.float32)
    folded = run._run(pixels)
    for key, values in run(pixels).items():
        assert folded[key].shape == values.shape == (3, 2016, values.shape[2])
        np.testing.assert_allclose(folded[key], values, atol=2e-3)


def test_wrong_files_are_named(tmp_path):
    content = path("mediapipe-palm-detection").read_bytes()
    for name, data, match in [
        ("empty.tflite", b"", "no tflite file"),
        ("page.tflite", b"<!doctype html><p>404", "no tflite file"),
        ("cut.tflite", content[:5000], "damaged"),
        ("zeros.tflite", content[:8] + bytes(4000), "damaged"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(NetworkError, match=f"{name}.*{match}"):
            Network(tmp_path / name)
    with pytest.raises(NetworkError, match=r"absent\.tflite"):
        Network(tmp_path / "absent.tflite")
    with pytest.raises(NetworkError, match="no output 'mask'"):
        Network(path("mediapipe-palm-detection"), outputs=("mask",))


def test_damage_anywhere_is_an_error_or_another_network():
    content = bytearray(path("mediapipe-face-detection-short").read_bytes())
    for place in RNG.integers(8, len(content), 60):
        damaged = bytearray(content)
        damaged[place : place + 8] = b"\xff" * 8
        with contextlib.suppress(TfliteError):
            read_tflite(bytes(damaged))


def test_runtimes_that_cannot_be_used_are_one_clear_error(monkeypatch):
    with pytest.raises(NetworkError, match="runs on the CPU alone"):
        check_runtime(RuntimeConfig("openvino", "cuda"))
    with pytest.raises(NetworkError, match="onnxruntime-gpu"):
        check_runtime(RuntimeConfig("onnxruntime", "cuda:1"))
    with pytest.raises(NetworkError, match="onnxruntime has no precision bf16"):
        check_runtime(RuntimeConfig("onnxruntime", precision="bf16"))
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(NetworkError, match=r"pip install 'handface\[litert\]'"):
        check_runtime(RuntimeConfig("litert"))


@pytest.mark.parametrize(("capabilities", "refused"), [(["FP32", "INT8"], True), (["FP32", "BF16"], False)])
def test_bf16_is_refused_where_the_cpu_would_quietly_take_float32(monkeypatch, capabilities, refused):
    monkeypatch.setattr(runtimes, "openvino_core", lambda: SimpleNamespace(get_property=lambda *_: capabilities))
    with pytest.raises(NetworkError, match="no bf16") if refused else contextlib.nullcontext():
        check_runtime(RuntimeConfig(precision="bf16"))


def test_no_network_of_the_detector_leaves_float32_to_the_cpu(monkeypatch):
    """Other boxes on CPUs with bf16 than on those without were other keys and scores for the same photo."""
    opened = []

    def watched(name, config):
        opened.append(config)
        return open_network(name, config)

    monkeypatch.setattr(detector, "open_network", watched)
    monkeypatch.setattr(selfie_segmenter, "open_network", watched)
    detector.HandFaceDetector(), selfie_segmenter.SelfieSegmenter()
    assert len(opened) == 6 and {config.precision for config in opened} == {"f32"}


def test_answers_that_are_not_finite_are_refused(monkeypatch):
    run = network("mediapipe-palm-detection")
    monkeypatch.setattr(run, "_run", lambda pixels: {name: np.full((1, 1), np.nan, np.float32) for name in run.outputs})
    with pytest.raises(NetworkError, match=r"palm_detection_full\.tflite: output Identity is not finite"):
        run(np.zeros((1, 192, 192, 3), np.float32))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0.0, 0.7, -2.0])
def test_a_region_shows_what_lies_in_it(rotation, mirrored):
    import cv2

    image = np.zeros((200, 300, 3), np.uint8)
    region = Region(140.0, 90.0, 80.0, 80.0, rotation, mirrored)
    (spot,) = region.to_picture(np.array([[0.25, 0.6]], np.float32))
    cv2.circle(image, [round(float(v)) for v in spot], 3, (255, 255, 255), -1)
    cut = NetworkPicture(image).cut_out(region, (160, 160))
    y, x = np.argwhere(cut[..., 0] > 128).mean(0)
    assert (x, y) == (pytest.approx(40, abs=2), pytest.approx(96, abs=2))
    inner = Region(0.25, 0.6, 0.2, 0.2, 0.3)
    placed = region.place(inner)
    assert (placed.x, placed.y) == pytest.approx(tuple(spot.tolist()), abs=1e-3) and placed.width == pytest.approx(16)
    corner = region.to_picture(
        np.array([[0.25 + 0.1 * (np.cos(0.3) + np.sin(0.3)), 0.6 + 0.1 * (np.sin(0.3) - np.cos(0.3))]])
    )
    np.testing.assert_allclose(placed.to_picture(np.array([[1.0, 0.0]], np.float32)), corner, atol=1e-3)


def test_regions_of_odd_pictures_are_whole():
    for shape in [(1, 1, 3), (3, 40_000, 3), (40_000, 2, 3)]:
        picture = NetworkPicture(np.full(shape, 77, np.uint8), 1280)
        cut = picture.cut_out(picture.whole(), (128, 128), replicate=True)
        assert cut.shape == (128, 128, 3) and (cut == 77).all()


def test_a_detection_is_cut_out_upright():
    box, wrist, knuckle = (np.array(v, np.float32) for v in ([40, 40, 60, 60], [60, 50], [40, 50]))
    region = turned_region(box, wrist, knuckle, np.pi / 2, 2.0, -0.5)
    assert region.width == 40 and region.rotation == pytest.approx(-np.pi / 2)
    assert (region.x, region.y) == pytest.approx((40.0, 50.0))  # moved to the fingers, which point left
    up = region.to_picture(np.array([[0.5, 0.0]], np.float32))[0]
    assert up == pytest.approx([20, 50], abs=1e-4)


def test_anchors_and_decoding():
    anchors = make_anchors(192, (8, 16, 16, 16), 2)
    assert anchors.shape == (2016, 2) and anchors[0] == pytest.approx([4 / 192, 4 / 192])
    assert anchors[1152] == pytest.approx([8 / 192, 8 / 192]) and len(make_anchors(192, (4,), 1)) == 2304
    raw, scores = np.zeros((2016, 18), np.float32), np.full(2016, -1e9, np.float32)
    raw[5, :6], scores[5] = (19.2, 0, 38.4, 38.4, 9.6, 9.6), 2.0
    raw[9, :4], scores[9] = (0, 0, -5, 5), 1e9  # a box turned inside out is no detection
    (found,) = decode(raw, scores, anchors, 192, 0.5)
    centre = anchors[5] + np.array([0.1, 0])
    assert found.box == pytest.approx([*(centre - 0.1), *(centre + 0.1)]) and found.score == pytest.approx(
        0.8808, abs=1e-4
    )
    assert found.keypoints.shape == (7, 2) and found.keypoints[0] == pytest.approx(anchors[5] + 0.05)
    assert decode(raw, scores, anchors, 192, 0.9999999) == []


def test_overlapping_boxes_are_averaged_by_their_scores():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [5, 5, 5, 5]], np.float32)
    found = suppress(boxes, boxes.reshape(4, 2, 2), np.array([0.9, 0.3, 0.6, 0.5], np.float32))
    assert [round(f.score, 3) for f in found] == [0.9, 0.6, 0.5]
    assert found[0].box == pytest.approx([0.25, 0, 10.25, 10]) and found[1].box == pytest.approx([30, 30, 40, 40])
