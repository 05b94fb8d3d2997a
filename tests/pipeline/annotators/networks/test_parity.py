"""Our networks against MediaPipe's own graphs on the same pictures: portraits, rendered hands on them, odd shapes.

Tolerances are relative to the size of face or hand. What is left comes from the rounding of pixels when crops are cut (the
package's OpenCV places samples at 1/32 pixel): one grey level of noise in the picture moves points three times as far.
"""

from functools import cache

import numpy as np
import pytest

from handface.pipeline.annotators.mediapipe import has_graphs
from handface.pipeline.annotators.networks.mediapipe import (
    FaceDetector,
    FaceMesh,
    HandLandmarks,
    PalmDetector,
    open_network,
)
from handface.pipeline.annotators.networks.regions import NetworkPicture
from handface.pipeline.annotators.networks.runtime import RuntimeConfig

pytest.importorskip("skimage.data")
if not has_graphs():
    pytest.skip("the installed mediapipe has no graphs to compare with", allow_module_level=True)

GRAPH_SHORT, GRAPH_FULL = 0.5, 0.6  # the graphs' own thresholds: the package does not pass its argument on to them


@cache
def pictures() -> tuple[np.ndarray, ...]:
    from handface.jobs.demonstration.pictures import demo_files

    wanted = ("plain_astronaut", "plain_hopper", "touch_astronaut_right.", "touch_hopper", "far_", "in_front")
    import cv2

    blobs = [data for name, data in demo_files() if name.startswith(wanted)]
    decoded = [cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR_RGB) for blob in blobs]
    wide = np.full((300, 900, 3), 90, np.uint8)
    wide[:, 500:800] = decoded[0][:300, :300]
    return (*decoded, wide, np.zeros((64, 64, 3), np.uint8), np.full((200, 200, 3), (224, 172, 138), np.uint8))


def network(name: str, runtime: str = "openvino"):
    return open_network(f"mediapipe-{name}", RuntimeConfig(runtime))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "litert"])
def test_faces(full_range, runtime):
    import mediapipe as mp

    pytest.importorskip({"litert": "ai_edge_litert"}.get(runtime, runtime))
    ours = FaceDetector(network(f"face-detection-{'full' if full_range else 'short'}", runtime), full_range)
    crops = [(picture, picture.whole()) for picture in map(NetworkPicture, pictures())]
    found = ours(crops, GRAPH_FULL if full_range else GRAPH_SHORT)
    assert sum(map(len, found)) >= 7
    with mp.solutions.face_detection.FaceDetection(model_selection=int(full_range)) as graph:
        for image, faces in zip(pictures(), found, strict=True):
            reference = graph.process(image).detections or []
            assert len(reference) == len(faces)
            for want, face in zip(reference, faces, strict=True):
                height, width = image.shape[:2]
                box = want.location_data.relative_bounding_box
                low = np.array([box.xmin * width, box.ymin * height])
                corners = np.concatenate([low, low + np.array([box.width * width, box.height * height])])
                points = [(p.x * width, p.y * height) for p in want.location_data.relative_keypoints]
                size = box.width * width
                np.testing.assert_allclose(face.box, corners, atol=0.02 * size)
                np.testing.assert_allclose(face.keypoints, points, atol=0.02 * size)
                assert face.score == pytest.approx(want.score[0], abs=0.02)


def test_face_mesh():
    import mediapipe as mp

    detector, mesh = (
        FaceDetector(network("face-detection-short"), full_range=False),
        FaceMesh(network("face-landmarks")),
    )
    errors = []
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as graph:
        for image in pictures():
            picture = NetworkPicture(image)
            found = detector([(picture, picture.whole())], GRAPH_SHORT)[0][:1]
            meshes = [m for m in mesh([(picture, face.region) for face in found]) if m.score >= 0.5]
            reference = graph.process(image).multi_face_landmarks or []
            assert len(reference) == len(meshes)
            for want, ours in zip(reference, meshes, strict=True):
                points = np.array([(p.x, p.y, p.z) for p in want.landmark]) * [
                    image.shape[1],
                    image.shape[0],
                    image.shape[1],
                ]
                errors.append(np.abs(ours.points - points).max() / np.ptp(points[:, 0]))
    assert len(errors) >= 7 and np.median(errors) < 0.01 and max(errors) < 0.04


@pytest.mark.parametrize("runtime", ["openvino", "litert"])
def test_hands(runtime):
    import mediapipe as mp

    pytest.importorskip({"litert": "ai_edge_litert"}.get(runtime, runtime))
    palms, hands = PalmDetector(network("palm-detection", runtime)), HandLandmarks(network("hand-landmarks", runtime))
    errors = []
    with mp.solutions.hands.Hands(static_image_mode=True, max_num_hands=4) as graph:
        for image in pictures():
            picture = NetworkPicture(image)
            found = palms([(picture, picture.whole())], 0.5)[0]
            ours = [hand for hand in hands([(picture, palm.region) for palm in found]) if hand.score > 0.5]
            reference = graph.process(image)
            marks = reference.multi_hand_landmarks or []
            assert len(marks) == len(ours)
            for i, mark in enumerate(marks):
                points = np.array([(p.x, p.y, p.z) for p in mark.landmark]) * [
                    image.shape[1],
                    image.shape[0],
                    image.shape[1],
                ]
                world = np.array([(p.x, p.y, p.z) for p in reference.multi_hand_world_landmarks[i].landmark])
                label = reference.multi_handedness[i].classification[0]
                hand = min(ours, key=lambda hand: np.abs(hand.points - points).max())
                errors.append(np.abs(hand.points - points).max() / np.ptp(points[:, :2], axis=0).max())
                np.testing.assert_allclose(hand.world, world, atol=0.006)
                # the graph takes the picture for a selfie
                assert (hand.right > 0.5) == (label.label == "Left")
                assert max(hand.right, 1 - hand.right) == pytest.approx(label.score, abs=0.05)
    assert len(errors) >= 5 and np.median(errors) < 0.01 and max(errors) < 0.06
