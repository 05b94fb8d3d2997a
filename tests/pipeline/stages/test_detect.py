import numpy as np
import pytest

from handface.pipeline.annotators.detector import DetectorConfig
from handface.pipeline.annotators.mediapipe import has_graphs
from handface.pipeline.annotators.networks.runtime import NetworkError, RuntimeConfig
from handface.pipeline.contract.detections import Detections, Face
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.detect import DetectConfig, DetectStage, visible_share
from tests.pipeline.people import face_at, hand_at

skimage_data = pytest.importorskip("skimage.data")


def meshed(face: Face) -> Face:
    return Face(face.box, face.score, face.keypoints, np.zeros((478, 3), np.float32))


def judged(faces: list[Face], hands: list, width: int = 640, height: int = 480) -> Record:
    record = Record(SourceItem("x"), image=np.zeros((height, width, 3), np.uint8))
    DetectStage()._judge(record, Detections(tuple(faces), tuple(hands)), None)
    return record


HAND = hand_at(320, 250, 800)


@pytest.mark.parametrize(
    ("faces", "hands", "reason"),
    [
        ([], [HAND], Reason.NO_FACE),
        ([meshed(face_at(320, 200, 200))], [HAND], Reason.FACE_TOO_SMALL),
        ([meshed(face_at(10, 200, 900))], [HAND], Reason.FACE_CUT),
        ([meshed(face_at(320, 200, 900))], [], Reason.NO_HAND),
        ([meshed(face_at(80 + 90 * i, 200, 400)) for i in range(6)], [HAND], Reason.TOO_MANY_PEOPLE),
    ],
)
def test_each_shortcoming_has_its_reason(faces, hands, reason):
    assert judged(faces, hands).reason is reason


def test_small_faces_in_the_background_are_not_a_crowd():
    background = [face_at(40 + 60 * i, 60, 300) for i in range(8)]
    record = judged([meshed(face_at(320, 240, 1200)), *background], [HAND])
    assert record.alive and len(record.faces) == 1


def test_visible_share_counts_landmarks_inside():
    face = face_at(0, 240, 1000)
    inside = (face.keypoints[:, 0] >= 0).mean()
    assert visible_share(face, 640, 480) == pytest.approx(inside)


@pytest.mark.parametrize("annotator", ["networks", "mediapipe"])
def test_the_stage_runs_a_batch_and_says_what_ran(annotator):
    if annotator == "mediapipe" and not has_graphs():
        pytest.skip("the installed mediapipe has no graphs")
    stage = DetectStage(DetectConfig(segmenter="off", annotator=annotator))
    stage.setup()
    records = [Record(SourceItem(n), image=getattr(skimage_data, n)()) for n in ("astronaut", "coffee")]
    stage(records)
    assert [record.reason for record in records] == [Reason.NO_HAND, Reason.NO_FACE]
    names = [used.name for used in records[0].annotators]
    assert len(names) == len(set(names)) >= 4
    assert all(len(used.weights_sha256) == 64 for used in records[0].annotators)


def test_odd_pictures_have_a_reason_each_and_cost_their_batch_nothing():
    stage = DetectStage()
    stage.setup()
    skin = np.full((300, 300, 3), (224, 172, 138), np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (33, 900, 3), np.uint8)
    odd = [np.zeros((1, 1, 3), np.uint8), np.full((3, 40_000, 3), 9, np.uint8), np.full((40_000, 2, 3), 200, np.uint8)]
    odd += [np.zeros((400, 400, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8), skin, noise]
    records = [Record(SourceItem(str(i)), image=image) for i, image in enumerate([*odd, skimage_data.astronaut()])]
    stage(records)
    assert [record.reason for record in records] == [Reason.NO_FACE] * len(odd) + [Reason.NO_HAND]


def test_a_picture_the_detector_fails_on_ends_alone(monkeypatch):
    stage = DetectStage(DetectConfig(segmenter="off"))
    stage.setup()
    real = stage._analyser.detector.annotate

    def annotate(images):
        if any(len(image) == 7 for image in images):
            raise NetworkError("palm_detection_full.tflite: output Identity is not finite")
        return real(images)

    monkeypatch.setattr(stage._analyser.detector, "annotate", annotate)
    records = [Record(SourceItem(str(n)), image=np.zeros((n, 20, 3), np.uint8)) for n in (9, 7, 8)]
    stage(records)
    assert [record.reason for record in records] == [Reason.NO_FACE, Reason.DETECTOR_FAILED, Reason.NO_FACE]
    assert "not finite" in records[1].detail


@pytest.mark.parametrize("content", [b"", b"<!doctype html><p>404", None])
def test_weights_that_are_wrong_or_missing_are_an_error_at_the_start(monkeypatch, tmp_path, content):
    from handface.pipeline.contract.model_store import ModelError, ModelStore

    real = ModelStore.path
    wrong = tmp_path / "palm_detection_full.tflite"
    if content is not None:
        wrong.write_bytes(content)
    monkeypatch.setattr(
        ModelStore, "path", lambda store, name: wrong if name == "mediapipe-palm-detection" else real(store, name)
    )
    with pytest.raises((NetworkError, ModelError), match=r"palm_detection_full\.tflite"):
        DetectStage(DetectConfig(segmenter="off")).setup()


def test_a_runtime_that_is_not_there_is_an_error_at_the_start():
    config = DetectConfig(detector=DetectorConfig(RuntimeConfig("openvino", device="cuda")), segmenter="off")
    stage = DetectStage(config)
    assert stage.resources.num_gpus == config.gpu_share
    with pytest.raises(NetworkError, match="choose onnxruntime"):
        stage.setup()
