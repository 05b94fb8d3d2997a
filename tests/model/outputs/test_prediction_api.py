"""What a prediction does by itself: short words, plain JSON, files, a plot, and exports under others' names."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from handface.model.outputs import named_parameters, read_record, to_coco
from handface.model.outputs.coco import NAMES, SKELETON
from handface.model.outputs.trust import trust
from handface.model.prediction.prediction import Fit, Person, Prediction
from tests.model.outputs.synthetic import picture, prediction


def with_picture() -> Prediction:
    return replace(prediction(0), image=picture(0))


def test_repr_is_one_short_line_without_arrays():
    text = repr(with_picture())
    assert len(text) < 200 and "array" not in text and "\n" not in text
    assert "256x256" in text and "presence=0.97" in text and "quality=none" in text
    assert "nobody: no face" in repr(Prediction((), 4, 3, True, "no face"))
    assert "UNTRAINED" in repr(prediction(0, trained=False))


def test_to_dict_is_plain_json_even_of_numbers_that_are_not_finite():
    person = replace(prediction(0).persons[0], presence=float("nan"))
    record = replace(with_picture(), persons=(person,)).to_dict("a.jpg")
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["photo"] == "a.jpg" and record["persons"][0]["presence"] is None
    assert record["persons"] == [person.to_dict()]


def test_save_writes_what_it_says_and_the_record_reads_back(tmp_path):
    made = with_picture()
    written = made.save(tmp_path / "deep/out", "a")
    names = {"a.json", "a.npz", "a.png", "a_coco.json", "a_0.glb", "a_0_contact.png", "a_0_parameters.npz"}
    assert {path.name for path in written} == names == {path.name for path in (tmp_path / "deep/out").iterdir()}
    _, back = read_record(tmp_path / "deep/out/a.json")
    np.testing.assert_array_equal(back.persons[0].head.vertices, made.persons[0].head.vertices)
    assert (tmp_path / "b.png") not in prediction(0).save(tmp_path, "b")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../a", "a\\b", "/a"])
def test_save_refuses_names_that_leave_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="plain file name"):
        with_picture().save(tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


def test_plot_shows_overlay_and_maps_and_needs_the_picture():
    plot = with_picture().plot()
    assert plot.width > 256 + 900 and plot.height >= 256
    left = np.asarray(plot)[plot.height // 2 - 128 :][:256, :256]
    assert not np.array_equal(left, picture(0)) and np.abs(left[0, 0].astype(int) - picture(0)[0, 0]).max() == 0
    with pytest.raises(ValueError, match="holds no picture"):
        prediction(0).plot()
    nobody = Prediction((), 256, 256, True, "no face", image=picture(0))
    assert np.asarray(nobody.plot()).shape[1] == 256


def posed(convention: str, angles: int) -> Person:
    person = prediction(0).persons[0]
    pose = np.arange(angles, dtype=np.float32)
    head = replace(person.head, parameters={"pose": pose, "expression": np.ones(5, np.float32)}, convention=convention)
    hand = replace(person.hand, parameters={"pose": np.arange(45, dtype=np.float32), "betas": np.ones(10, np.float32)})
    return replace(person, hand=hand, head=head)


def test_parameters_have_the_names_of_the_layers():
    person = posed("free", 12)
    found = named_parameters(person)
    for joint, first in (("neck", 0), ("jaw", 3), ("leye", 6), ("reye", 9)):
        np.testing.assert_array_equal(found[f"flame_{joint}_pose"], [[first, first + 1, first + 2]])
    np.testing.assert_array_equal(found["mano_hand_pose"][0], np.arange(45))
    np.testing.assert_array_equal(found[f"smplx_{person.side}_hand_pose"], found["mano_hand_pose"])
    np.testing.assert_array_equal(found["smplx_expression"], found["flame_expression"])
    assert bool(found["mano_is_rhand"]) == (person.side == "right") and "flame_betas" not in found


def test_decafs_head_pose_is_root_and_jaw():
    found = named_parameters(posed("decaf", 6))
    np.testing.assert_array_equal(found["flame_root_pose"], [[0, 1, 2]])
    np.testing.assert_array_equal(found["flame_jaw_pose"], [[3, 4, 5]])
    assert not found["flame_neck_pose"].any() and not found["smplx_leye_pose"].any()


def test_coco_holds_the_projected_points_and_counts_only_finite_ones():
    person = prediction(0).persons[0]
    head = replace(person.head, keypoints_3d=np.zeros((68, 3), np.float32))
    broken = head.keypoints_3d.copy()
    broken[5] = np.nan
    people = (replace(person, head=head), replace(person, head=replace(head, keypoints_3d=broken)))
    record = to_coco([("a.jpg", replace(prediction(0), persons=people)), ("b.jpg", Prediction((), 4, 3, True))])
    json.dumps(record, allow_nan=False)
    assert [one["file_name"] for one in record["images"]] == ["a.jpg", "b.jpg"]
    whole, part = record["annotations"]
    assert (whole["num_keypoints"], part["num_keypoints"]) == (89, 88) and part["keypoints"][15:18] == [0, 0, 0]
    points = np.array(whole["keypoints"]).reshape(89, 3)
    np.testing.assert_allclose(points[68:, :2], person.camera.project(person.hand.keypoints_3d), atol=1e-3)
    x, y, width, height = whole["bbox"]
    np.testing.assert_allclose([x, y, x + width, y + height], [*points[:, :2].min(0), *points[:, :2].max(0)], atol=2e-3)
    assert len(NAMES) == 89 == len(set(NAMES)) and SKELETON[0] == [69, 70] and SKELETON[5] == [70 + 4, 75]
    assert SKELETON[4] == [69, 74] and SKELETON[-1] == [88, 89]


@pytest.mark.parametrize(
    ("quality", "level", "words"),
    [
        (0.9, "good", "well"),
        (0.6986, "good", "well"),  # shown as 0.70
        (0.6, "fair", "fingers"),
        (0.2, "low", "the hand is cut"),
        (float("nan"), "unknown", "not known"),
    ],
)
def test_words_are_honest(quality, level, words):
    fit = Fit(True, quality, "the hand is cut", np.zeros(89, np.float32))
    person = replace(prediction(0).persons[0], fit=fit)
    assert trust(person, True)[0] == level and words in trust(person, True)[1]
    assert trust(person, False)[0] == "low" and "untrained" in trust(person, False)[1]
    assert trust(replace(person, fit=None), True)[0] == "unknown"
