"""Depth at the points of a photo's people: sampled in each one's crop, handed to the fit, kept in the files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import handface.predict.depth
from handface.jobs.demonstration.pictures import demo_files
from handface.model.outputs import RecordError, read_record, write_record
from handface.pipeline.annotators.depth_anything import DepthWeightsError
from handface.pipeline.contract.images.picture import decode_image
from handface.pipeline.stages.depth import DepthConfig
from handface.predict.build import PredictorOptions
from handface.predict.depth import DepthOfPeople
from handface.predict.people import HandAtFace
from tests.handface.test_people import placed
from tests.pipeline.annotators.tiny_depth_anything import write_checkpoint
from tests.pipeline.people import hand_at

WIDTH, HEIGHT = 1600, 900


class RedIsDepth:
    """A dense source that says what is painted in the photo."""

    name = "red"

    def __init__(self, kind: str) -> None:
        self.kind, self.sides = kind, []

    def annotate(self, images):
        self.sides += [image.shape[:2] for image in images]
        return [image[..., 0].astype(np.float32) for image in images]


def ramp() -> np.ndarray:
    """A photo whose red is its column, in steps of eight pixels."""
    photo = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    photo[..., 0] = np.arange(WIDTH) // 8
    return photo


@pytest.fixture
def network(monkeypatch):
    def put(kind: str) -> RedIsDepth:
        network = RedIsDepth(kind)
        monkeypatch.setattr(handface.predict.depth, "load_annotators", lambda config: [network])
        return network

    return put


@pytest.mark.parametrize("kind", ["affine-inverse", "metric"])
def test_each_point_has_the_depth_of_its_own_place_in_the_photo(network, kind):
    source = network(kind)
    near, far = placed(500, 300, 2000.0), placed(1250, 400, 1000.0)
    people = [HandAtFace(0.9, near, hand_at(430, 450, 2000.0)), HandAtFace(0.8, far, hand_at(1250, 450, 1000.0))]
    depths = DepthOfPeople(DepthConfig("anywhere"))(ramp(), people, None)
    assert [side[0] == side[1] <= 512 for side in source.sides] == [True, True]  # squares, the large one shrunk
    for one, depth in zip(people, depths, strict=True):
        points = np.concatenate([one.face.keypoints, one.hand.keypoints])
        known = depth.values[:, 1] > 0
        assert known[:68].sum() > 20 and known[68:].sum() > 10
        np.testing.assert_allclose(depth.values[known, 0], points[known, 0] / 8, atol=2.5)
        assert depth.inverse == (kind == "affine-inverse")


def test_what_the_other_hand_hides_of_the_face_is_not_read(network):
    network("metric")
    face, below, over = placed(800, 300, 1500.0), hand_at(780, 420, 1500.0), hand_at(760, 180, 1500.0, "left")
    depth_of = DepthOfPeople(DepthConfig("anywhere"))
    (alone,) = depth_of(ramp(), [HandAtFace(0.9, face, below)], None)
    first, _ = depth_of(ramp(), [HandAtFace(0.9, face, below), HandAtFace(0.8, face, over)], None)
    assert first.values[:68, 1].sum() < alone.values[:68, 1].sum()
    (stranger, _) = depth_of(ramp(), [HandAtFace(0.9, face, below), HandAtFace(0.8, replace(face), over)], None)
    np.testing.assert_array_equal(stranger.values, alone.values)  # a hand at somebody else's face


def test_a_network_of_depth_anything_is_asked_and_its_answer_kept(tmp_path, recwarn, capfd):
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    photo = decode_image(dict(demo_files())["touch_astronaut_right.jpg"])
    capfd.readouterr()
    with pytest.raises(ValueError, match="multiple of 14"):
        handface.load(depth=checkpoint, depth_side=100)
    prediction = handface.load(depth=checkpoint, depth_side=70).predict(photo)
    assert (
        not [one for one in recwarn if "transformers" in str(one.filename)]
        and "Loading weights" not in capfd.readouterr().err
    )
    (person,) = prediction.persons
    assert person.fit.fitted and person.detection.depth.inverse
    values = person.detection.depth.values
    assert values.shape == (89, 2) and 20 < values[:, 1].sum() <= 89 and np.ptp(values[values[:, 1] > 0, 0]) > 0
    write_record(tmp_path, "a", "a.jpg", prediction)
    _, again = read_record(tmp_path / "a.json")
    np.testing.assert_array_equal(again.persons[0].detection.depth.values, values)
    assert again.persons[0].detection.depth.inverse and again.persons[0].fit.depth == person.fit.depth
    record = json.loads((tmp_path / "a.json").read_text())
    for damage in (
        {"values": [[1.0, 1.0]]},
        {"inverse": "no"},
        {"values": [[1.0, 7.0]] * 89},
        {"values": [[None, 1.0]] * 89},
    ):
        record["persons"][0]["detection"]["depth"] = {"values": values.tolist(), "inverse": True} | damage
        (tmp_path / "a.json").write_text(json.dumps(record))
        with pytest.raises(RecordError, match="depth: 89 values"):
            read_record(tmp_path / "a.json")
    record["persons"][0]["detection"].pop("depth")  # as files had it before
    (tmp_path / "a.json").write_text(json.dumps(record))
    assert read_record(tmp_path / "a.json")[1].persons[0].detection.depth is None


def test_depth_without_a_fit_or_without_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--fit off"):
        PredictorOptions(depth="somewhere", fit="off")
    with pytest.raises(ValueError, match="--depth-side"):
        PredictorOptions(depth_side=392)
    with pytest.raises(ValueError, match="--depth is empty"):
        handface.load(depth="")
    with pytest.raises(ValueError, match="fit is False"):
        handface.load(fit=False)
    with pytest.raises(DepthWeightsError, match="nowhere"):
        handface.load(depth=str(tmp_path / "nowhere"))
