"""`import handface; handface.load(...).predict(...)`."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

import handface
import handface.predict.people
from handface.jobs.demonstration.pictures import demo_files
from handface.model.prediction.prediction import NobodyFoundError
from handface.model.weights import named
from handface.predict.inputs import InputError
from handface.predict.session import HandFace
from tests.model.marked_photo import Mark, photo, predictor

MARK = Mark((200.0, 120.0), (245.0, 150.0))


@pytest.fixture
def image() -> np.ndarray:
    return photo([MARK], 400, 260)


def test_importing_is_light():
    code = "import sys, handface; print([m for m in ('torch', 'cv2', 'mediapipe', 'ray', 'PIL', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_path_array_and_pillow_image_give_the_same(image, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    model = HandFace(predictor(*[[MARK]] * 5))
    sources = (path, str(path), image, Image.fromarray(image), Image.fromarray(image).convert("RGBA"))
    first, *others = [model.predict(source) for source in sources]
    assert model.trained and first.trained and (first.width, first.height) == (400, 260)
    for other in others:
        assert other.persons[0].camera == first.persons[0].camera


def test_many_photos_in_order(image):
    model = HandFace(predictor([MARK], [], [MARK]))
    grey = image[..., 0]
    found = list(model.predict_many([image, image[::-1], grey]))
    assert [len(one.persons) for one in found] == [1, 0, 1]
    kept = (image, image[::-1], np.repeat(grey[..., None], 3, axis=2))
    for one, pixels in zip(found, kept, strict=True):
        np.testing.assert_array_equal(one.image, pixels)


def test_pillow_images_are_turned_upright(image):
    turned = Image.fromarray(image)
    turned.getexif()[0x0112] = 6
    found = HandFace(predictor([])).predict(turned)
    assert (found.width, found.height) == (260, 400)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xd8\xff broken"])
def test_a_bad_file_says_why(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"empty|not image|corrupt"):
        HandFace(predictor([])).predict(path)
    with pytest.raises(InputError, match="not found"):
        HandFace(predictor([])).predict(tmp_path / "absent.jpg")


@pytest.mark.parametrize(
    "source",
    [
        None,
        3,
        b"abc",
        [],
        np.zeros((9, 9, 3), np.float32),
        np.zeros((0, 9, 3), np.uint8),
        Image.new("I;16", (9, 9)),
        Image.new("F", (9, 9)),
    ],
    ids=lambda source: type(source).__name__ + str(getattr(source, "mode", "")),
)
def test_what_is_no_photo_is_an_input_error(source):
    with pytest.raises(InputError, match=r"a photo is|a picture|give the path"):
        HandFace(predictor([])).predict(source)


def test_one_path_is_not_many_photos(tmp_path):
    with pytest.raises(InputError, match="takes several photos"):
        list(HandFace(predictor([])).predict_many(str(tmp_path / "photo.jpg")))


def test_palette_transparency_is_laid_on_white():
    clear = Image.new("P", (90, 60), 0)
    clear.info["transparency"] = 0
    assert (HandFace(predictor([])).predict(clear).image == 255).all()


def test_a_cut_pillow_image_is_an_input_error(tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match="cannot decode"):
        HandFace(predictor([])).predict(Image.open(path))


def test_a_video_streams(image, tmp_path):
    path = str(tmp_path / "a.mp4")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (400, 260))
    for _ in range(5):
        writer.write(image[..., ::-1])
    writer.release()
    frames = list(HandFace(predictor(*[[MARK]] * 5)).predict_video(path))
    assert [len(frame.prediction.persons) for frame in frames] == [1] * 5
    assert frames[3].time == pytest.approx(0.3)
    with pytest.raises(OSError, match="not a video"):
        list(HandFace(predictor()).predict_video(tmp_path / "absent.mp4"))


def test_a_fresh_network_says_that_it_is_untrained(monkeypatch, tmp_path, image):
    class Nobody:
        def __call__(self, image):
            raise NobodyFoundError("no face")

    monkeypatch.setattr(handface.predict.people, "PeopleDetector", Nobody)
    monkeypatch.setattr(named, "EMBEDDED", tmp_path)
    found = handface.load("dice-nano").predict(image)
    assert not found.trained and not found.persons and found.reason == "no face"


def test_a_plain_script_without_a_main_guard_works(tmp_path):
    content = dict(demo_files())["touch_astronaut_left.jpg"]
    (tmp_path / "photo.jpg").write_bytes(content)
    (tmp_path / "script.py").write_text(
        "import sys, handface\n"
        "found = handface.load().predict('photo.jpg')\n"
        # a part of torch that its compiler needs, and prediction seconds of imports later
        "assert 'sympy' not in sys.modules\n"
        "print(found.trained, [person.side for person in found.persons])\n"
    )
    environment = os.environ | {"HANDFACE_MODELS": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "True ['left']", done.stderr
    assert "handface" not in done.stderr and "Traceback" not in done.stderr


def test_openvino_sends_no_telemetry():
    code = (
        "import os, sys\n"
        "os.register_at_fork(before=lambda: print('forked'))\n"
        "from handface.model.network.openvino_import import import_openvino\n"
        "import_openvino().Core()\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])\n"
    )
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stderr
