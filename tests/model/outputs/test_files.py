"""Files of predictions: what trimesh reads back from meshes, and records that return the prediction as it was."""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace

import numpy as np
import pytest
import trimesh

from handface.model.outputs import (
    MESH_FORMATS,
    OverlayConfig,
    RecordError,
    draw_overlay,
    encode_mesh,
    read_record,
    write_record,
)
from handface.model.outputs.colours import HAND, HEAD
from handface.model.outputs.mesh_files import glb_extras
from handface.model.prediction.prediction import Prediction
from handface.model.render.texture import to_srgb
from tests.model.outputs.synthetic import prediction


def equal(mine: object, theirs: object) -> None:
    """Every field, arrays in type and value."""
    if isinstance(mine, np.ndarray):
        assert isinstance(theirs, np.ndarray) and mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    elif isinstance(mine, dict):
        assert list(mine) == list(theirs)  # type: ignore[call-overload]
        for name in mine:
            equal(mine[name], theirs[name])  # type: ignore[index]
    elif hasattr(mine, "__dataclass_fields__"):
        assert type(mine) is type(theirs)
        for field in fields(mine):  # type: ignore[arg-type]
            equal(getattr(mine, field.name), getattr(theirs, field.name))
    elif isinstance(mine, tuple):
        assert len(mine) == len(theirs)  # type: ignore[arg-type]
        for one, other in zip(mine, theirs, strict=True):  # type: ignore[call-overload]
            equal(one, other)
    else:
        assert mine == theirs


@pytest.mark.parametrize("kind", MESH_FORMATS)
@pytest.mark.parametrize("trained", [True, False])
def test_meshes_are_read_back_upright_coloured_and_honest(kind, trained):
    person = prediction(3).persons[0]
    data = encode_mesh(person, kind, trained)
    assert (b"untrained" in data.lower()) is not trained
    loaded = trimesh.load(io.BytesIO(data), file_type=kind, process=False)
    if kind == "glb":
        assert glb_extras(data)["trained"] is trained and glb_extras(data)["side"] == person.side
        assert len(loaded.geometry) == 2
        found = {name.split()[0]: mesh for name, mesh in loaded.geometry.items()}
        hand, head = found["hand"], found["head"]
        np.testing.assert_allclose(head.vertices, person.head.vertices * [1, -1, -1], atol=1e-6)
        np.testing.assert_array_equal(head.faces, person.head.faces)
        for mesh, part, ramp in ((hand, person.hand, HAND), (head, person.head, HEAD)):
            linear = mesh.visual.vertex_attributes["color"][:, :3]
            np.testing.assert_array_equal(to_srgb(linear.astype(np.float32)), ramp.colours(part.contact))
            np.testing.assert_allclose(mesh.vertex_attributes["_CONTACT"].ravel(), part.contact, atol=1e-6)
            material = mesh.visual.material
            assert material.metallicFactor == 0 and material.roughnessFactor > 0.5 and material.doubleSided
            agree = (
                mesh.vertex_normals * trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).vertex_normals
            ).sum(1)
            assert np.quantile(agree, 0.05) > 0.9
    else:
        expected = np.concatenate([person.hand.vertices, person.head.vertices]) * [1, -1, -1]
        np.testing.assert_allclose(loaded.vertices, expected, atol=1e-6)
        colours = np.concatenate([HAND.colours(person.hand.contact), HEAD.colours(person.head.contact)])
        np.testing.assert_allclose(loaded.visual.vertex_colors[:, :3], colours, atol=1)
        np.testing.assert_array_equal(loaded.faces[: len(person.hand.faces)], person.hand.faces)


@pytest.mark.parametrize("kind", MESH_FORMATS)
def test_vertices_keep_their_numbers_also_in_no_face(kind):
    person = prediction(3).persons[0]
    hand = replace(person.hand, faces=person.hand.faces[(person.hand.faces != 5).all(1)])
    data = encode_mesh(replace(person, hand=hand), kind, True)
    loaded = trimesh.load(io.BytesIO(data), file_type=kind, process=False, maintain_order=True)
    vertices = loaded.geometry["hand"].vertices if kind == "glb" else loaded.vertices[: len(hand.vertices)]
    np.testing.assert_allclose(vertices, hand.vertices * [1, -1, -1], atol=1e-6)


def test_a_glb_is_laid_out_as_the_specification_says():
    """Read by hand: aligned chunks and views, counts that fit, bounds of positions, unit normals, nothing beyond the buffer."""
    person = prediction(3).persons[0]
    data = encode_mesh(person, "glb", True)
    assert data[:4] == b"glTF" and np.frombuffer(data, "<u4", 2, 4).tolist() == [2, len(data)]
    length = int(np.frombuffer(data, "<u4", 1, 12)[0])
    document, start = json.loads(data[20 : 20 + length]), 20 + length + 8
    assert length % 4 == 0 and data[start - 4 : start] == b"BIN\0"
    assert document["buffers"][0]["byteLength"] == len(data) - start == int(np.frombuffer(data, "<u4", 1, start - 8)[0])
    assert [node["name"] for node in document["nodes"]] == ["hand", "head"]

    def array(number: int) -> np.ndarray:
        accessor = document["accessors"][number]
        view = document["bufferViews"][accessor["bufferView"]]
        kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC3": 3}[accessor["type"]]
        assert view["byteOffset"] % 4 == 0 and view["byteLength"] == 4 * width * accessor["count"]
        return np.frombuffer(data, kind, width * accessor["count"], start + view["byteOffset"]).reshape(-1, width)

    for node, part in zip(document["nodes"], (person.hand, person.head), strict=True):
        (primitive,) = document["meshes"][node["mesh"]]["primitives"]
        values = {name: array(number) for name, number in primitive["attributes"].items()}
        assert {len(found) for found in values.values()} == {len(part.vertices)}
        accessor = document["accessors"][primitive["attributes"]["POSITION"]]
        assert (
            accessor["min"] == values["POSITION"].min(0).tolist()
            and accessor["max"] == values["POSITION"].max(0).tolist()
        )
        np.testing.assert_allclose(np.linalg.norm(values["NORMAL"], axis=1), 1, atol=1e-5)
        assert array(primitive["indices"]).max() < len(part.vertices)


def test_a_second_reader_finds_both_meshes_and_the_contact_of_each_vertex():
    from pygltflib import GLTF2

    person = prediction(3).persons[0]
    found = GLTF2.load_from_bytes(encode_mesh(person, "glb", True))
    stored = found.binary_blob()
    for node, part in zip(found.nodes, (person.hand, person.head), strict=True):
        (primitive,) = found.meshes[node.mesh].primitives
        for name, expected in (("POSITION", part.vertices * [1, -1, -1]), ("_CONTACT", part.contact[:, None])):
            accessor = found.accessors[getattr(primitive.attributes, name)]
            view = found.bufferViews[accessor.bufferView]
            values = np.frombuffer(
                stored, "<f4", accessor.count * expected.shape[1], view.byteOffset + accessor.byteOffset
            )
            np.testing.assert_allclose(values.reshape(expected.shape), expected, atol=1e-6)
    assert [node.name for node in found.nodes] == ["hand", "head"]


@pytest.mark.parametrize("number", [0, 3])
def test_a_record_is_the_prediction(tmp_path, number):
    found = prediction(number)
    two = replace(
        found, persons=(found.persons[0], replace(found.persons[0], detection=None, track=None)), trained=False
    )
    # as with --mesh drawn
    drawn = replace(two.persons[0], hand=replace(two.persons[0].hand, offset=0.5 * two.persons[0].hand.vertices))
    two = replace(two, persons=(drawn, *two.persons[1:]))
    write_record(tmp_path, "a", "photos/a.jpg", two)
    photo, again = read_record(tmp_path / "a.json")
    assert photo == "photos/a.jpg"
    equal(two, again)
    plain = json.loads((tmp_path / "a.json").read_text())
    assert plain["trained"] is False and plain["schema"] == "handface-prediction/2"
    assert [plain["persons"][0][part]["mesh"] for part in ("hand", "head")] == ["drawn", "parametric"]
    assert (
        plain["persons"][0]["head"]["contact_vertices"] == np.flatnonzero(found.persons[0].head.contact > 0.5).tolist()
    )


def test_nobody_is_a_record_too(tmp_path):
    nobody = Prediction((), 640, 480, True, "no face")
    write_record(tmp_path, "a", "a.jpg", nobody)
    assert read_record(tmp_path / "a.json") == ("a.jpg", nobody)


def test_numbers_that_are_not_finite_are_still_json(tmp_path):
    person = prediction(3).persons[0]
    hollow = replace(
        person, presence=float("nan"), head=replace(person.head, keypoints_3d=np.full((2, 3), np.inf, np.float32))
    )
    write_record(tmp_path, "a", "a.jpg", replace(prediction(3), persons=(hollow,)))
    record = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert record["persons"][0]["presence"] is None
    _, again = read_record(tmp_path / "a.json")
    assert np.isnan(again.persons[0].presence) and np.isinf(again.persons[0].head.keypoints_3d).all()


def edit_json(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(schema="other/2"), "schema is 'other/2', this reads"),
        (lambda record: record.pop("width"), "width is missing"),
        (lambda record: record["persons"][0].update(side="both"), "side is 'both'"),
        (lambda record: record["persons"][0]["hand"]["parameters"].update(tail=[1]), "person0/hand/tail is missing"),
        (lambda record: record.update(persons=3), "not a stored prediction"),
    ],
)
def test_wrong_records_are_named(tmp_path, change, message):
    write_record(tmp_path, "a", "a.jpg", prediction(3))
    edit_json(tmp_path / "a.json", change)
    with pytest.raises(RecordError, match=message):
        read_record(tmp_path / "a.json")


def test_wrong_arrays_are_named(tmp_path):
    person = prediction(3).persons[0]
    short = replace(person, hand=replace(person.hand, contact=person.hand.contact[:5]))
    write_record(tmp_path, "a", "a.jpg", replace(prediction(3), persons=(short,)))
    with pytest.raises(RecordError, match="person0/hand: contact do not fit"):
        read_record(tmp_path / "a.json")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(RecordError, match=r"a\.npz: .*zip"):
        read_record(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[1, 2")
    with pytest.raises(RecordError, match=r"b\.json: not a stored prediction"):
        read_record(tmp_path / "b.json")


def test_points_that_were_not_seen_may_be_no_numbers(tmp_path):
    made = prediction(3)
    found = made.persons[0].detection
    face, hand = found.face.copy(), found.hand.copy()
    face[5], hand[2] = (np.nan, np.nan, 0), (0, 0, 0)
    person = replace(made.persons[0], detection=replace(found, face=face, hand=hand))
    made = replace(made, persons=(person,))
    write_record(tmp_path, "a", "a.jpg", made)
    assert json.loads((tmp_path / "a.json").read_text())["persons"][0]["face_keypoints_2d"][5] == [None, None, 0]
    equal(read_record(tmp_path / "a.json")[1].persons[0].detection, person.detection)
    drawn = draw_overlay(np.zeros((256, 256, 3), np.uint8), made, OverlayConfig(keypoints=True))
    only = replace(person, detection=replace(found, face=face * 0, hand=hand * 0))
    bare = draw_overlay(
        np.zeros((256, 256, 3), np.uint8), replace(made, persons=(only,)), OverlayConfig(keypoints=True)
    )
    without = draw_overlay(np.zeros((256, 256, 3), np.uint8), made, OverlayConfig(keypoints=False))
    assert np.array_equal(bare, without) and not np.array_equal(drawn, without)
