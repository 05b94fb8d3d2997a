from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handface.model.bodies import BodyFileError, load_arrays, load_body
from handface.model.network.decode import PersonDecoder
from handface.model.network.output import DiceOutput
from handface.model.network.topology import TopologyError
from handface.model.prediction.crop import as_rgb
from handface.model.prediction.prediction import Person
from handface.model.prediction.predictor import Predictor, PredictorConfig
from tests.model.marked_photo import PRESSED, SCALE, TOUCHED, KnowingDetector, Mark, config, network, photo, predictor

RIGHT = Mark((300.0, 200.0), (345.0, 250.0))
LEFT = Mark((300.0, 200.0), (250.0, 240.0), "left")


def predict_one(mark: Mark, width: int = 640, height: int = 480) -> Person:
    (person,) = predictor([mark]).predict(photo([mark], width, height)).persons
    return person


def posed(part, side="right") -> np.ndarray:
    body = load_body(part.body, part.convention, side=side)
    given = {name: torch.from_numpy(value)[None] for name, value in part.parameters.items()}
    return body(**given).vertices[0].numpy()


@pytest.mark.parametrize("mark", [RIGHT, LEFT, replace(RIGHT, size=200.0), replace(LEFT, size=30.0)])
def test_meshes_project_onto_the_photos_own_pixels(mark):
    person = predict_one(mark)
    pixel_of_crop = person.crop[0, 0]
    assert person.side == mark.side and person.confidence == 0.8
    undeformed = person.head.vertices + person.head.deformation
    assert np.abs(undeformed.mean(0)).max() < 1e-5  # about the head's mean
    np.testing.assert_allclose(person.camera.project(undeformed.mean(0)), mark.head, atol=0.3 * pixel_of_crop)
    np.testing.assert_allclose(person.camera.project(person.hand.vertices[0]), mark.hand, atol=0.3 * pixel_of_crop)
    assert person.camera.scale == pytest.approx(SCALE * pixel_of_crop)


@pytest.mark.parametrize("mark", [RIGHT, LEFT])
def test_the_crop_holds_face_and_hand_and_its_affine_is_exact(mark):
    person = predict_one(mark)
    size = config().input.size
    corners = person.crop @ np.array([[-0.5, size - 0.5], [-0.5, size - 0.5], [1, 1]])
    detection = mark.detection()
    points = np.concatenate([detection.face, detection.hand])[:, :2]
    assert (points > corners[:2, 0]).all() and (points < corners[:2, 1]).all()
    extent = (points.max(0) - points.min(0)).max()
    assert corners[0, 1] - corners[0, 0] == pytest.approx(1.4 * extent)


@pytest.mark.parametrize("mark", [RIGHT, LEFT])
def test_parameters_pose_the_body_onto_the_mesh(mark):
    person = predict_one(mark)
    np.testing.assert_allclose(posed(person.hand, mark.side), person.hand.vertices, atol=1e-5)
    undeformed = person.head.vertices + person.head.deformation
    np.testing.assert_allclose(posed(person.head), undeformed, atol=2e-4)


def test_contact_and_deformation_of_a_left_hand_go_to_the_other_side_of_the_head():
    opposite = int(load_arrays("free-head").mirror.vertices[TOUCHED])
    assert opposite != TOUCHED
    for mark, vertex, pressed in ((RIGHT, TOUCHED, PRESSED), (LEFT, opposite, np.array(PRESSED) * [-1, 1, 1])):
        head = predict_one(mark).head
        assert head.contact.argmax() == vertex and (head.contact > 0.5).sum() == 1
        np.testing.assert_allclose(head.deformation[vertex], pressed, atol=1e-6)
        assert np.count_nonzero(head.deformation.any(1)) == 1


def test_a_flipped_photo_gives_the_mirror_image():
    width = 640
    one = predict_one(RIGHT, width)
    image = photo([RIGHT], width, 480)[:, ::-1]
    (other,) = predictor([RIGHT.flipped(width)]).predict(np.ascontiguousarray(image)).persons
    assert (one.side, other.side) == ("right", "left")
    opposite = load_arrays("free-head").mirror.vertices
    flip = np.array([-1, 1, 1])
    np.testing.assert_allclose(other.hand.vertices, one.hand.vertices * flip, atol=2e-4)
    np.testing.assert_allclose(other.head.vertices, one.head.vertices[opposite] * flip, atol=1e-5)
    np.testing.assert_allclose(other.hand.contact, one.hand.contact)
    np.testing.assert_allclose(other.head.contact, one.head.contact[opposite])
    assert other.camera.tx == pytest.approx(width - 1 - one.camera.tx, abs=0.1)
    assert (other.camera.scale, other.camera.ty) == pytest.approx((one.camera.scale, one.camera.ty), abs=0.1)
    jaw = one.head.keypoints_3d[:17]
    np.testing.assert_allclose(other.head.keypoints_3d[:17], jaw[::-1] * flip, atol=1e-5)


@pytest.mark.parametrize("mark", [RIGHT, LEFT])
def test_triangles_keep_their_outside_outside(mark):
    person = predict_one(mark)
    for part in (person.hand, person.head):
        a, b, c = (part.vertices[part.faces[:, k]].astype(np.float64) for k in range(3))
        volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
        assert volume > 1e-5  # m^3: positive if triangles run counter-clockwise seen from outside


def test_a_head_without_a_mirror_map_is_turned_over_and_keeps_its_vertices(monkeypatch):
    decoder = PersonDecoder(config())
    body = replace(decoder.head, arrays=replace(decoder.head.arrays, mirror=None))
    monkeypatch.setattr(decoder, "head", body)
    working = predictor([LEFT])
    working.decoder = decoder
    head = working.predict(photo([LEFT], 640, 480)).persons[0].head
    assert head.contact.argmax() == TOUCHED
    assert set(head.parameters) == {"pose", "global_orient", "transl"}
    reference = predict_one(LEFT).head
    np.testing.assert_allclose(head.parameters["pose"], reference.parameters["pose"], atol=1e-6)
    np.testing.assert_array_equal(head.faces, body.arrays.faces[:, [0, 2, 1]])
    opposite = load_arrays("free-head").mirror.vertices
    np.testing.assert_allclose(head.vertices[opposite], reference.vertices, atol=1e-6)


def test_people_of_many_photos_share_batches_and_stay_in_order():
    crowd = [Mark((100.0 + 150 * i, 150.0), (130.0 + 150 * i, 180.0), size=40) for i in range(3)]
    photos = [[RIGHT], [], crowd, [LEFT], []]
    sizes: list[int] = []

    def counting(images):
        sizes.append(len(images))
        return network(images)

    many = Predictor(counting, config(), KnowingDetector(*photos), False, PredictorConfig(batch=4))
    results = list(many.predict_many(photo(marks, 640, 480) for marks in photos))
    assert [len(result.persons) for result in results] == [1, 0, 3, 1, 0]
    assert [result.reason for result in results] == ["", "an empty room", "", "", "an empty room"]
    assert sizes == [4, 1]
    assert not any(result.trained for result in results)
    for mark, person in zip(crowd, results[2].persons, strict=True):
        np.testing.assert_allclose(person.camera.project(np.zeros(3, np.float32)), mark.head, atol=8)


def test_a_ready_crop_is_predicted_in_its_own_pixels():
    mark = Mark((90.0, 100.0), (150.0, 120.0), "left")
    person = predictor().predict_crop(photo([mark], 240, 240), "left")
    np.testing.assert_allclose(person.camera.project(np.zeros(3, np.float32)), mark.head, atol=0.3)
    assert person.detection is None and person.side == "left"
    with pytest.raises(ValueError, match="side is 'up'"):
        predictor().predict_crop(photo([mark], 240, 240), "up")


@pytest.mark.parametrize("shape", [(480, 640), (480, 640, 1), (480, 640, 4)])
def test_grey_and_alpha_pictures_are_pictures(shape):
    image = np.full(shape, 200, np.uint8)
    assert predictor([]).predict(image).reason == "an empty room"


def test_transparent_is_white():
    image = np.zeros((2, 2, 4), np.uint8)
    image[0, 0] = (10, 20, 30, 255)
    rgb = as_rgb(image)
    assert rgb[0, 0].tolist() == [10, 20, 30] and rgb[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="a picture"):
        predictor([]).predict(image)


def test_one_pixel_and_a_huge_picture():
    assert predictor([]).predict(np.zeros((1, 1, 3), np.uint8)).width == 1
    mark = Mark((4000.0, 3000.0), (4700.0, 3500.0), size=900.0)
    image = np.zeros((6000, 8000, 3), np.uint8)
    part = photo([Mark((1000.0, 1000.0), (1700.0, 1500.0))], 2000, 2000)
    image[2000:4000, 3000:5000] = part
    person = predictor([mark]).predict(image).persons[0]
    np.testing.assert_allclose(person.camera.project(np.zeros(3, np.float32)), mark.head, atol=8)


def test_bodies_that_are_not_the_networks_are_refused():
    network = config()
    hand = network.sizes.hand

    def other(part):
        return replace(network, sizes=replace(network.sizes, hand=part))

    with pytest.raises(TopologyError, match=r"made for the hand free-hand but was given the head free-head"):
        PersonDecoder(network, hand="free-head")
    with pytest.raises(TopologyError, match="betas 9 != 10"):
        PersonDecoder(other(replace(hand, betas=9)))
    with pytest.raises(TopologyError, match="does not say where its hand"):
        PersonDecoder(other(replace(hand, body="MANO")))
    with pytest.raises(BodyFileError, match="no such file"):
        PersonDecoder(network, head="absent.npz")


@pytest.mark.parametrize("mark", [RIGHT, LEFT])
def test_the_parameters_pose_the_parametric_mesh_and_only_it(mark):
    """A network whose vertices and parameters disagree, as every real one's do."""

    def torn(images):
        flat = network(images).flatten()
        for name in ("hand_vertices_0", "head_vertices_0", "hand_keypoints", "head_keypoints"):
            flat[name] = flat[name] + 0.004 * torch.randn_like(flat[name])
        return DiceOutput.unflatten(flat)

    image, errors, offsets = photo([mark], 640, 480), {}, {}
    for mesh in ("parametric", "drawn"):
        torch.manual_seed(0)
        one = Predictor(torn, config(), KnowingDetector([mark]), False, PredictorConfig(mesh=mesh)).predict(image)
        person = one.persons[0]
        errors[mesh] = max(
            np.abs(posed(part, side) - part.vertices - part.deformation).max()
            for part, side in ((person.hand, mark.side), (person.head, "right"))
        )
        offsets[mesh] = [
            None
            if part.offset is None
            else np.abs(posed(part, side) + part.offset - part.vertices - part.deformation).max()
            for part, side in ((person.hand, mark.side), (person.head, "right"))
        ]
        np.testing.assert_allclose((person.head.vertices + person.head.deformation).mean(0), 0, atol=1e-5)
    assert errors["parametric"] < 1e-4 and offsets["parametric"] == [None, None]
    assert errors["drawn"] > 1e-3 and max(offsets["drawn"]) < 1e-4
