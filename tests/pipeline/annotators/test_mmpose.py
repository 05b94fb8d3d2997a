"""Top-down networks: a small SimCC network exported here, and mmpose's own RTMPose where mmpose is installed."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from handface.pipeline.annotators import mmpose_shim, top_down
from handface.pipeline.annotators.mmpose import MmposeAnnotator, MmposeConfig, build, export_onnx
from handface.pipeline.annotators.onnx_pose import OnnxPose, OnnxPoseConfig
from handface.pipeline.annotators.top_down import (
    FACE_68_FROM_106,
    PoseError,
    crop_affine,
    decode_simcc,
    regions,
    to_image,
)
from handface.pipeline.contract.detections import Detections
from tests.pipeline.people import face_at, hand_at

WIDTH, HEIGHT, SPLIT = 48, 64, 2
RTMPOSE = "wholebody_2d_keypoint/rtmpose/coco-wholebody/rtmpose-m_8xb64-270e_coco-wholebody-256x192.py"


class SimCC(torch.nn.Module):
    """The shape of an RTMPose: features, then one distribution along each axis for every keypoint."""

    def __init__(self, points: int, split: int = SPLIT) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = torch.nn.Conv2d(3, points, 5, stride=4, padding=2)
        cells = (WIDTH // 4) * (HEIGHT // 4)
        self.x, self.y = torch.nn.Linear(cells, WIDTH * split), torch.nn.Linear(cells, HEIGHT * split)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cells = self.features(pixels).flatten(2)
        return self.x(cells), self.y(cells)


def export(module: torch.nn.Module, path, free_batch: bool = True):
    names = ["input", "simcc_x", "simcc_y"]
    axes = {name: {0: "n"} for name in names} if free_batch else None
    torch.onnx.export(
        module.eval(),
        (torch.zeros(1, 3, HEIGHT, WIDTH, dtype=next(module.parameters()).dtype),),
        str(path),
        input_names=names[:1],
        output_names=names[1:],
        dynamic_axes=axes,
        dynamo=False,
    )
    return path


def image(seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return np.kron(small, np.ones((10, 10, 1), np.uint8))  # (400, 500, 3)


PEOPLE = Detections(
    (face_at(200, 150, 700), face_at(380, 200, 400)), (hand_at(220, 170, 700, "right"), hand_at(120, 200, 700, "left"))
)


def straightforward(module: torch.nn.Module, picture: np.ndarray, box: top_down.Box) -> np.ndarray:
    """The same in torch, written out: sample the padded box bilinearly, run, take the maxima, go back."""
    x0, y0, x1, y1 = box
    cx, cy, w, h = (x0 + x1) / 2, (y0 + y1) / 2, 1.25 * (x1 - x0), 1.25 * (y1 - y0)
    w, h = max(w, h * WIDTH / HEIGHT), max(h, w * HEIGHT / WIDTH)
    import cv2

    corners = np.float32([(cx - w / 2, cy - h / 2), (cx + w / 2, cy - h / 2), (cx - w / 2, cy + h / 2)])
    affine = cv2.getAffineTransform(corners, np.float32([(0, 0), (WIDTH, 0), (0, HEIGHT)]))
    sampled = cv2.warpAffine(picture, affine, (WIDTH, HEIGHT)).astype(np.float64)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    pixels = (sampled - mean) / std
    with torch.no_grad():
        x, y = module(torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float())
    xs = cx - w / 2 + x[0].argmax(-1).numpy() / SPLIT * w / WIDTH
    ys = cy - h / 2 + y[0].argmax(-1).numpy() / SPLIT * h / HEIGHT
    score = np.minimum(x[0].max(-1).values.numpy(), y[0].max(-1).values.numpy())
    return np.column_stack([xs, ys, np.clip(score, 0, 1)])


@pytest.mark.parametrize("free_batch", [True, False])
def test_onnx_equals_a_straightforward_decode(tmp_path, free_batch):
    module = SimCC(133)
    network = OnnxPose(OnnxPoseConfig(export(module, tmp_path / "w.onnx", free_batch)))
    picture = image()
    boxes = [region.box for region in regions(PEOPLE, "wholebody", 500, 400)]
    for box, ours in zip(boxes, network.points(picture, boxes), strict=True):
        want = straightforward(module, picture, box)
        assert ours.shape == (133, 3) and ours.dtype == np.float32
        # the two matrices differ in float rounding, so of near-ties a few may fall the other way
        assert (np.abs(ours - want).max(1) < 0.02).mean() > 0.97


def test_a_half_precision_network_gives_the_points_of_the_full_one(tmp_path):
    full, half = (
        OnnxPose(OnnxPoseConfig(export(module, tmp_path / f"{name}.onnx"), layout="hand"))
        for name, module in (("full", SimCC(21)), ("half", SimCC(21).half()))
    )
    box = PEOPLE.hands[0].box
    (want,), (ours,) = full.points(image(), [box]), half.points(image(), [box])
    assert ours.dtype == np.float32
    # of near-ties a few fall the other way in half precision
    assert (np.abs(ours - want).max(1) < 0.02).mean() > 0.8


def test_a_network_of_whole_numbers_is_refused_at_set_up(tmp_path):
    import onnx

    path = export(SimCC(21), tmp_path / "w.onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    cast = onnx.helper.make_node("Cast", ["input"], ["pixels"], to=onnx.TensorProto.FLOAT)
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "input" else name for name in node.input]
    model.graph.node.insert(0, cast)
    onnx.save(model, path)
    with pytest.raises(PoseError, match=r"w\.onnx: input 'input' takes tensor\(uint8\)"):
        OnnxPose(OnnxPoseConfig(path, layout="hand"))


def test_whole_body_points_go_to_face_and_hands_with_their_sides(tmp_path):
    network = OnnxPose(OnnxPoseConfig(export(SimCC(133), tmp_path / "w.onnx"), licence="Apache-2.0"))
    (found,) = network.annotate([image()], [PEOPLE])
    points = network.points(image(), [region.box for region in regions(PEOPLE, "wholebody", 500, 400)])
    assert len(found.faces) == 2 and found.faces[0].mesh is None
    for person, face in zip(points, found.faces, strict=True):
        assert np.array_equal(face.keypoints, person[23:91])
    assert [hand.side for hand in found.hands] == ["left", "right"] * 2
    assert np.array_equal(found.hands[0].keypoints, points[0][91:112])
    assert np.array_equal(found.hands[1].keypoints, points[0][112:133])
    assert all(h.keypoints[:, 2].min() >= 0 and h.keypoints[:, 2].max() <= 1 for h in found.hands)
    (record,) = network.records()
    assert record.task == "wholebody_keypoints" and len(record.weights_sha256) == 64 and record.licence == "Apache-2.0"


def test_hand_and_face_networks_keep_to_their_boxes(tmp_path):
    hands = OnnxPose(OnnxPoseConfig(export(SimCC(21), tmp_path / "h.onnx"), layout="hand"))
    (found,) = hands.annotate([image()], [PEOPLE])
    assert not found.faces and [hand.side for hand in found.hands] == ["right", "left"]
    faces = OnnxPose(OnnxPoseConfig(export(SimCC(106), tmp_path / "f.onnx"), layout="face106"))
    (found,) = faces.annotate([image()], [PEOPLE])
    raw = faces.points(image(), [PEOPLE.faces[0].box])[0]
    assert not found.hands and np.array_equal(found.faces[0].keypoints, raw[list(FACE_68_FROM_106)])
    assert hands.annotate([image()], [Detections()]) == [Detections()]


def test_106_points_give_68_distinct_ones():
    assert len(FACE_68_FROM_106) == len(set(FACE_68_FROM_106)) == 68 and max(FACE_68_FROM_106) == 103
    # mirror pairs of LaPa's points (mmpose's lapa.py) must be mirror pairs of iBUG's
    lapa = {
        33: 46,
        34: 45,
        37: 42,
        58: 62,
        59: 61,
        66: 79,
        67: 78,
        69: 76,
        70: 75,
        71: 82,
        73: 80,
        84: 90,
        96: 100,
        0: 32,
    }
    ibug = {
        17: 26,
        18: 25,
        21: 22,
        31: 35,
        32: 34,
        36: 45,
        37: 44,
        38: 43,
        39: 42,
        40: 47,
        41: 46,
        48: 54,
        60: 64,
        0: 16,
    }
    for left, right in ibug.items():
        assert lapa[FACE_68_FROM_106[left]] == FACE_68_FROM_106[right]


def test_coordinates_there_and_back():
    affine = crop_affine((10, 20, 110, 220), 192, 256)
    points = np.float32([[10, 20], [60, 120], [110, 220]])
    inside = points @ affine[:, :2].T + affine[:, 2]
    assert inside[1] == pytest.approx([96, 128]) and (inside > 0).all() and (inside < (192, 256)).all()
    np.testing.assert_allclose(to_image(inside.astype(np.float32), affine), points, atol=1e-3)


def test_simcc_takes_the_maximum_and_the_weaker_score():
    x, y = np.zeros((1, 2, 10), np.float32), np.zeros((1, 2, 12), np.float32)
    x[0, 0, 6], y[0, 0, 9], x[0, 1, 1], y[0, 1, 2] = 0.9, 0.4, 0.2, 0.8
    points, scores = decode_simcc(x, y, 2)
    assert points[0].tolist() == [[3, 4.5], [0.5, 1]] and scores[0] == pytest.approx([0.4, 0.2])


def test_a_persons_box_holds_head_shoulders_and_near_hands():
    first = regions(PEOPLE, "wholebody", 500, 400)[0].box
    for part in (PEOPLE.faces[0].box, PEOPLE.hands[0].box):
        low, high = np.maximum(part[:2], 0), np.minimum(part[2:], (499, 399))
        assert (np.array(first[:2]) <= low).all() and (np.array(first[2:]) >= high).all()
    assert first[0] >= 0 and first[3] <= 399


def test_wrong_files_are_named(tmp_path):
    def refused(match: str, path, layout="wholebody") -> None:
        with pytest.raises(PoseError, match=match):
            OnnxPose(OnnxPoseConfig(path, layout)).points(image(), [(0, 0, 50, 50)])

    refused("there is no checkpoint", tmp_path / "absent.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x01 corrupt")
    refused("no readable ONNX", tmp_path / "bad.onnx")
    refused("layout hand expects", export(SimCC(133), tmp_path / "w.onnx"), "hand")
    one = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    torch.onnx.export(one, (torch.zeros(1, 3, HEIGHT, WIDTH),), str(tmp_path / "one.onnx"), dynamo=False)
    refused("1 outputs", tmp_path / "one.onnx")
    network = OnnxPose(OnnxPoseConfig(tmp_path / "w.onnx"))
    with pytest.raises(ValueError, match="earlier detector"):
        network.annotate([image()])


def test_mmpose_checkpoints_that_are_more_than_tensors_are_refused(tmp_path):
    class Sneaky:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"state_dict": {}, "meta": Sneaky()}, tmp_path / "a.pth")
    (tmp_path / "b.safetensors").write_bytes(b"truncated")
    for name, match in (("a.pth", "no plain state dict"), ("b.safetensors", "no plain"), ("c.pth", "there is no")):
        with pytest.raises(PoseError, match=match):
            MmposeAnnotator(MmposeConfig(RTMPOSE, tmp_path / name))


def test_the_shim_leaves_what_is_installed_alone(monkeypatch):
    names = ("mmcv.ops", "mmdet", "mmdet.utils", "torchvision", "torchvision.transforms")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(mmpose_shim, "find_spec", lambda name: object())
    mmpose_shim.install()
    assert not any(name in sys.modules for name in names)
    monkeypatch.setattr(mmpose_shim, "find_spec", lambda name: None)
    mmpose_shim.install()
    with pytest.raises(RuntimeError, match=r"docs/mmpose\.md"):
        sys.modules["mmcv.ops"].DeformConv2d(3)
    for name in names:
        sys.modules.pop(name)


def test_mmpose_and_its_onnx_export_agree(tmp_path):
    if find_spec("mmpose") is None:
        with pytest.raises(PoseError, match=r"docs/mmpose\.md"):
            build(RTMPOSE)
        return
    torch.manual_seed(0)
    model = build(RTMPOSE)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "rtmpose.pth")
    export_onnx(model, tmp_path / "rtmpose.onnx")
    through_mmpose = MmposeAnnotator(MmposeConfig(RTMPOSE, tmp_path / "rtmpose.pth"))
    through_onnx = OnnxPose(OnnxPoseConfig(tmp_path / "rtmpose.onnx"))
    skimage_data = pytest.importorskip("skimage.data")
    for picture, face in ((skimage_data.astronaut(), face_at(225, 130, 800)), (image(), PEOPLE.faces[0])):
        height, width = picture.shape[:2]
        boxes = [region.box for region in regions(Detections((face,), PEOPLE.hands), "wholebody", width, height)]
        for theirs, ours in zip(
            through_mmpose.points(picture, boxes), through_onnx.points(picture, boxes), strict=True
        ):
            assert theirs.shape == ours.shape == (133, 3)
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert through_mmpose.records()[0].version.startswith("mmpose 1.")
