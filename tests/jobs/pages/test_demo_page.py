"""handface demo-page: its server against good and hostile requests."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time
import zipfile

import numpy as np
import pytest
import trimesh
from PIL import Image

from handface.jobs.cli import main
from handface.jobs.demonstration.pictures import demo_files, png_header
from handface.jobs.page.answers import PageAnswer, Store
from handface.model.outputs.mesh_files import glb_extras
from handface.predict.build import PredictorOptions, build_predictor
from handface.predict.people import PeopleDetector
from tests.jobs.pages.page_server import SIZE, Known, ask, png, serving, upload
from tests.model.outputs.synthetic import picture, prediction


def test_a_photo_is_answered_with_pictures_meshes_and_numbers(port):
    status, found = upload(port, png(picture(3, SIZE)))
    assert status == 200 and found["trained"] is False and found["found"] == "1 person, 1 hand"
    person = prediction(3, SIZE).persons[0]
    (facts,) = found["persons"]
    assert facts["side"] == person.side and facts["head_contacts"] == (person.head.contact > 0.5).sum()
    assert facts["deformation_mm"] == pytest.approx(1000 * np.linalg.norm(person.head.deformation, axis=1).max())
    root = f"/api/results/{found['name']}"
    _, headers, body = ask(port, f"{root}/overlay.png")
    drawn = np.asarray(Image.open(io.BytesIO(body)))
    assert headers["Content-Type"] == "image/png" and drawn.shape[0] > SIZE  # the banner
    assert (drawn[0, :, 0] > 150).all() and not drawn[0, :, 1].any()
    contact = np.asarray(Image.open(io.BytesIO(ask(port, f"{root}/contact_0.png")[2])))
    assert (contact[0, :, 0] > 150).all() and not contact[0, :, 1].any()
    assert glb_extras(ask(port, f"{root}/mesh_0.glb")[2])["trained"] is False
    record = json.loads(ask(port, f"{root}/prediction.json")[2])
    assert record["trained"] is False and record["persons"][0]["side"] == person.side


def test_everything_can_be_saved_alone_and_together(port):
    _, found = upload(port, png(picture(3, SIZE)))
    root = f"/api/results/{found['name']}"
    arrays = np.load(io.BytesIO(ask(port, f"{root}/prediction.npz")[2]), allow_pickle=False)
    person = prediction(3, SIZE).persons[0]
    np.testing.assert_array_equal(arrays["person0/hand/vertices"], person.hand.vertices)
    assert ask(port, f"{root}/mesh_0.ply")[2].startswith(b"ply") and b"\nf " in ask(port, f"{root}/mesh_0.obj")[2]
    status, headers, data = ask(port, f"{root}/all.zip")
    assert status == 200 and headers["Content-Type"] == "application/zip"
    names = set(zipfile.ZipFile(io.BytesIO(data)).namelist())
    assert names == {
        *("prediction.json", "prediction.npz", "overlay.png", "contact_0.png"),
        *("mesh_0.glb", "mesh_0.ply", "mesh_0.obj"),
    }


def test_quality_is_told_in_a_number_and_in_words(port):
    _, found = upload(port, png(picture(3, SIZE)))
    (facts,) = found["persons"]
    assert facts["level"] == "low" and "untrained" in facts["words"] and facts["quality"] is None


def test_the_examples_are_photos_that_the_network_reads(port):
    for name in ("temple", "cheek"):
        status, headers, data = ask(port, f"/examples/{name}.jpg")
        assert status == 200 and headers["Content-Type"] == "image/jpeg"
        assert Image.open(io.BytesIO(data)).size == (512, 512)
    status, headers, _ = ask(port, "/favicon.svg")
    assert status == 200 and headers["Content-Type"] == "image/svg+xml"


def test_the_network_is_warm_before_the_first_photo():
    known = Known()
    with serving(known, warm_up=True) as port:
        deadline = time.monotonic() + 30
        while known.calls < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert known.calls == 1
        assert upload(port, png(picture(3, SIZE)))[0] == 200


def test_the_viewers_mesh_is_both_meshes(port):
    _, found = upload(port, png(picture(3, SIZE)))
    person = prediction(3, SIZE).persons[0]
    body = ask(port, f"/api/results/{found['name']}/mesh_0.bin")[2]
    count, hand, head = np.frombuffer(body, "<u4", 3)
    assert (hand, head) == (len(person.hand.faces), len(person.head.faces))
    assert len(body) == 12 + count * (12 + 12 + 4 + 4) + 12 * (hand + head)
    positions = np.frombuffer(body, "<f4", 3 * count, 12).reshape(-1, 3)
    both = np.concatenate([person.hand.vertices, person.head.vertices])
    np.testing.assert_allclose(positions, both * [1, -1, -1], atol=1e-7)
    normals = np.frombuffer(body, "<f4", 3 * count, 12 + 12 * count).reshape(-1, 3)
    head_mesh = trimesh.Trimesh(person.head.vertices * [1, -1, -1], person.head.faces, process=False)
    cosine = (normals[len(person.hand.vertices) :] * head_mesh.vertex_normals).sum(1)
    assert np.median(cosine) > 0.999 and (cosine > 0.9).mean() > 0.99
    triangles = np.frombuffer(body, "<u4", 3 * (hand + head), 12 + 32 * count)
    assert triangles[: 3 * hand].max() < len(person.hand.vertices) <= triangles[3 * hand :].min()
    assert triangles.max() < count


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", 422, "empty"),
        (b"<html>not a photo</html>", 422, "not image"),
        (b"MZ\x90\x00" * 50, 422, "not image"),
        (png(picture(3, SIZE))[:2000], 422, "corrupt"),
        (png_header(30_000, 30_000), 422, "30000x30000"),
        (png(np.zeros((20, 20, 3), np.uint8)), 422, "too small: 20x20"),
        (b"\xff" * 2_000_001, 413, "larger than 2 MB"),
        (png(np.zeros((100, 100, 3), np.uint8)), 500, "failed on this photo"),
        (b"\0\0\0\x18ftypmp42" + bytes(100), 422, "This is a video. In a terminal: handface predict FILE"),
        (b"\x1aE\xdf\xa3" + bytes(100), 422, "This is a video"),
    ],
    ids=["empty", "html", "program", "cut", "bomb", "tiny", "large", "breaks the detector", "mp4", "webm"],
)
def test_bad_files_are_told_why_and_the_page_goes_on(port, data, status, message):
    code, answer = upload(port, data)
    assert code == status and message in answer["error"]
    assert upload(port, png(np.full((100, 100, 3), 60, np.uint8)))[1]["reason"] == "a face, but no hand"


def test_every_answer_has_the_security_headers(port):
    for path in (
        "/",
        "/app.js",
        "/viewer.js",
        "/camera.js",
        "/style.css",
        "/favicon.svg",
        "/api/info",
        "/absent",
        "/api/results/a/b",
    ):
        _, headers, _ = ask(port, path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"


def test_the_page_names_no_other_host(port):
    for path in ("/", "/app.js", "/viewer.js", "/camera.js", "/style.css"):
        assert b"//" not in ask(port, path)[2].replace(b"\n// ", b"\n").replace(b" // ", b" ").removeprefix(b"// ")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "[bad"])
def test_other_host_names_are_refused(port, known, host):
    calls = known.calls
    assert ask(port, "/", headers={"Host": host})[0] == 421
    assert upload(port, png(picture(3, SIZE)), Host=host)[0] == 421
    assert known.calls == calls


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8008", "127.0.0.1:1", "[::1]:8008", "named.example"])
def test_own_names_and_addresses_are_answered(port, host):
    assert ask(port, "/", headers={"Host": host})[0] == 200


def test_other_pages_cannot_send_photos(port, known):
    calls = known.calls
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}"):
        assert upload(port, png(picture(3, SIZE)), Origin=origin)[0] == 403
    assert known.calls == calls
    assert upload(port, png(picture(3, SIZE)), Origin=f"http://127.0.0.1:{port}")[0] == 200


def test_unknown_paths_methods_and_results_are_json_errors(port):
    for path in ("/absent", "/api/predict", "/api/results/x/overlay.png", "/api/results/x/..%2f..%2fserver.py"):
        status, _, body = ask(port, path)
        assert status in (404, 405) and json.loads(body)["error"]


def test_photos_go_one_by_one_and_too_many_are_sent_away():
    known = Known()
    known.gate.clear()
    with serving(known, queue=2) as port:
        codes: list[int] = []
        data = png(np.full((100, 100, 3), 60, np.uint8))
        threads = [threading.Thread(target=lambda: codes.append(upload(port, data)[0])) for _ in range(6)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while len(codes) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert codes == [503] * 4
        known.gate.set()
        for thread in threads:
            thread.join()
        assert sorted(codes) == [200, 200, 503, 503, 503, 503] and known.most_together == 1
        assert upload(port, data)[0] == 200  # the queue is empty again


def test_a_slow_upload_is_given_up_and_frees_its_place():
    with serving(Known(), upload_seconds=0.3, queue=1) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.putrequest("POST", "/api/predict")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"begin")
        assert connection.getresponse().status == 408
        connection.close()
        assert upload(port, png(np.full((100, 100, 3), 60, np.uint8)))[0] == 200


def test_the_store_forgets_the_oldest_by_number_and_by_size():
    def one(size: int) -> PageAnswer:
        return PageAnswer({}, {"a": ("x/y", bytes(size))})

    store = Store(count=3, size=100)
    names = [store.add(one(10)) for _ in range(4)]
    assert store.file(names[0], "a") is None and store.file(names[1], "a") == ("x/y", bytes(10))
    large = store.add(one(95))
    assert len(store) == 1 and store.file(large, "a") is not None  # the newest stays, whatever its size
    assert store.file(large, "b") is None and len({*names, large}) == 5


def test_no_file_is_written(port, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert upload(port, png(picture(3, SIZE)))[0] == 200
    assert not list(tmp_path.iterdir())


def test_the_real_predictor_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDFACE_MODELS", str(tmp_path / "models"))
    predictor = build_predictor(PredictorOptions(model="dice-nano"), PeopleDetector())
    files = dict(demo_files())
    with serving(predictor.predict, predictor.trained) as port:
        status, found = upload(port, files["touch_astronaut_left.jpg"])
        assert status == 200 and found["trained"] is predictor.trained
        assert [person["side"] for person in found["persons"]] == ["left"]
        assert ask(port, f"/api/results/{found['name']}/mesh_0.glb")[2][:4] == b"glTF"
        status, nobody = upload(port, files["plain_coffee.jpg"])
        assert status == 200 and nobody["persons"] == [] and nobody["reason"] == "no face"


def test_a_wrong_model_ends_before_anything_is_served(capsys):
    assert main(["demo-page", "--model", "absent"]) == 2
    assert "absent: no such preset" in capsys.readouterr().err
