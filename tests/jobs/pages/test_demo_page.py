"""handface demo-page: its server against good and hostile requests, and the page in a real headless browser."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from aiohttp import web
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from handface.jobs.cli import main
from handface.jobs.demonstration.pictures import demo_files, png_header
from handface.jobs.page.answers import PageAnswer, Store
from handface.jobs.page.server import PageConfig, make_app
from handface.model.outputs.mesh_files import glb_extras
from handface.model.prediction.prediction import Prediction
from handface.predict.build import PredictorOptions, build_predictor
from handface.predict.people import PeopleDetector
from tests.model.outputs.synthetic import picture, prediction

SIZE = 320
TALL = 400  # rows of the picture with two people


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def two_people_picture() -> np.ndarray:
    return np.pad(picture(0, SIZE), ((0, TALL - SIZE), (0, 0), (0, 0)))


@dataclass
class Known:
    """Knows the answer for two synthetic scenes, tells them by size and brightness; dark pictures have nobody, black ones fail."""

    trained: bool = False
    calls: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    together: int = 0
    most_together: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(self, image: np.ndarray) -> Prediction:
        self.calls += 1
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        self.gate.wait(30)
        self.together -= 1
        height, width = image.shape[:2]
        if image.mean() < 1:
            raise RuntimeError("a detector that breaks")
        if (width, height) == (SIZE, TALL):
            both = (prediction(0, SIZE).persons[0], prediction(3, SIZE).persons[0])
            return Prediction(both, width, height, self.trained)
        if (width, height) != (SIZE, SIZE):
            return Prediction((), width, height, self.trained, "a face, but no hand")
        number = min((0, 3), key=lambda n: float(np.abs(image.astype(int) - picture(n, SIZE)).mean()))
        return replace(prediction(number, SIZE), trained=self.trained)


@contextmanager
def serving(
    predict: Callable[[np.ndarray], Prediction], trained: bool = False, warm_up: bool = False, **limits: Any
) -> Iterator[int]:
    """The page on a free loopback port."""
    ready, ended = threading.Event(), asyncio.Event()
    where: dict[str, Any] = {}

    async def serve() -> None:
        app = make_app(predict, "dice-test", trained, PageConfig(**limits), ("named.example",), warm_up)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        where.update(port=runner.addresses[0][1], loop=asyncio.get_running_loop())
        ready.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield where["port"]
    finally:
        where["loop"].call_soon_threadsafe(ended.set)
        thread.join(20)


def ask(
    port: int, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET" if data is None else "POST", path, data, headers or {})
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def upload(port: int, data: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    status, _, body = ask(port, "/api/predict", data, headers)
    return status, json.loads(body)


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


@pytest.fixture(scope="module")
def port(known: Known) -> Iterator[int]:
    with serving(known, max_bytes=2_000_000, max_pixels=1_000_000) as number:
        yield number


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


# --- the page itself ---
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    executable, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    assert executable and driver, "the page tests need a browser: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = executable
    for flag in (
        *("headless", "no-sandbox", "disable-dev-shm-usage", "disable-quic", "no-first-run", "disable-sync"),
        *("use-angle=swiftshader", "enable-unsafe-swiftshader"),  # WebGL without a GPU
        *("disable-background-networking", "disable-component-update"),
        *("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"),  # a camera that shows a test picture
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
        "window-size=1400,1500",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    messages = [entry["message"] for entry in chrome.get_log("browser")]
    chrome.quit()
    unexpected = [text for text in messages if "status of 4" not in text and "favicon" not in text]
    assert not unexpected, unexpected  # bad files are answered with 4xx, which the browser logs


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Path]:
    pictures = {"one": picture(3, SIZE), "other": picture(0, SIZE), "two": two_people_picture()}
    pictures["nobody"] = np.full((100, 100, 3), 60, np.uint8)
    paths = {name: tmp_path / f"{name}.png" for name in pictures}
    for name, image in pictures.items():
        paths[name].write_bytes(png(image))
    paths["bad"] = tmp_path / "bad<b>.jpg"
    paths["bad"].write_bytes(b"<html>not a photo</html>")
    paths["large"] = tmp_path / "large.jpg"
    paths["large"].write_bytes(b"\xff\xd8\xff" + bytes(2_000_000))
    return paths


def element(browser: webdriver.Chrome, name: str) -> Any:
    return browser.find_element(By.ID, name)


def choose(browser: webdriver.Chrome, path: Path) -> None:
    element(browser, "file").send_keys(str(path))


def wait_for(browser: webdriver.Chrome, name: str, text: str) -> None:
    try:
        WebDriverWait(browser, 60).until(lambda _: text in element(browser, name).text)
    except TimeoutException:
        found = {one: element(browser, one).text for one in {name, "status", "error"}}
        raise AssertionError(f"no {text!r} in #{name}: {found}") from None


def canvas(browser: webdriver.Chrome) -> np.ndarray:
    """RGBA of the 3D view once two frames were painted."""
    address = browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() =>"
        " done(document.getElementById('view').toDataURL()), 50)))"
    )
    import base64

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGBA")).astype(int)


def changed(before: np.ndarray, after: np.ndarray) -> float:
    return float((np.abs(before - after).max(-1) > 8).mean())


def ready(browser: webdriver.Chrome, port: int, photo: Path) -> None:
    browser.get(f"http://127.0.0.1:{port}/")
    choose(browser, photo)
    wait_for(browser, "status", "1 person")


def test_page_shows_a_result_and_says_loudly_that_it_is_untrained(browser, port, photos):
    browser.get(f"http://127.0.0.1:{port}/")
    wait_for(browser, "untrained", "Untrained network.")  # before any upload
    assert not element(browser, "results").is_displayed()
    choose(browser, photos["one"])
    wait_for(browser, "status", "one.png: 1 person, 1 hand")
    assert element(browser, "results").is_displayed() and element(browser, "untrained").is_displayed()
    assert element(browser, "solid").find_element(By.CLASS_NAME, "untrained").is_displayed()
    for name in ("overlay", "contact"):
        WebDriverWait(browser, 10).until(
            lambda _, name=name: (
                browser.execute_script("return document.getElementById(arguments[0]).naturalWidth", name) > 0
            )
        )
    assert prediction(3, SIZE).persons[0].side in element(browser, "facts").text
    view = canvas(browser)
    covered = (view[..., 3] == 255).mean()
    assert 0.05 < covered < 0.9  # neither blank nor full
    assert len(np.unique(view[view[..., 3] == 255][:, :3], axis=0)) > 100  # shaded


def test_a_trained_network_has_no_warning(browser, photos):
    with serving(Known(trained=True), trained=True) as other:
        ready(browser, other, photos["one"])
        assert not [note for note in browser.find_elements(By.CLASS_NAME, "untrained") if note.is_displayed()]


def test_dragging_keys_and_wheel_turn_and_zoom(browser, port, photos):
    ready(browser, port, photos["one"])
    stage = element(browser, "view")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", stage)
    start = canvas(browser)
    assert changed(start, canvas(browser)) == 0  # it rests by itself
    ActionChains(browser).drag_and_drop_by_offset(stage, 120, 0).perform()
    dragged = canvas(browser)
    assert changed(start, dragged) > 0.02
    stage.send_keys(Keys.HOME)
    assert changed(start, canvas(browser)) == 0
    stage.send_keys(Keys.ARROW_LEFT)
    assert changed(start, canvas(browser)) > 0.01
    element(browser, "reset").click()
    assert changed(start, canvas(browser)) == 0
    stage.send_keys("-")
    assert (canvas(browser)[..., 3] > 0).sum() < 0.9 * (start[..., 3] > 0).sum()


def test_parts_can_be_hidden_and_coloured_otherwise(browser, port, photos):
    ready(browser, port, photos["one"])
    start = canvas(browser)
    Select(element(browser, "colour")).select_by_value("deformation")
    assert changed(start, canvas(browser)) > 0.05
    element(browser, "show-head").click()
    hand = canvas(browser)
    assert 0 < (hand[..., 3] > 0).sum() < 0.6 * (start[..., 3] > 0).sum()
    element(browser, "show-hand").click()
    assert not canvas(browser).any()


def test_bad_files_are_explained_and_the_next_photo_works(browser, port, photos):
    browser.get(f"http://127.0.0.1:{port}/")
    choose(browser, photos["bad"])
    wait_for(browser, "error", "bad<b>.jpg: This file cannot be used: not image")
    choose(browser, photos["large"])
    wait_for(browser, "error", "large.jpg is larger than 2 MB.")
    choose(browser, photos["nobody"])
    wait_for(browser, "status", "nobody found, a face, but no hand")
    assert not element(browser, "error").is_displayed() and not element(browser, "results").is_displayed()
    choose(browser, photos["one"])
    wait_for(browser, "status", "one.png: 1 person, 1 hand")
    first, source = canvas(browser), element(browser, "overlay").get_attribute("src")
    choose(browser, photos["other"])
    wait_for(browser, "status", "other.png: 1 person, 1 hand")
    assert element(browser, "overlay").get_attribute("src") != source
    assert changed(first, canvas(browser)) > 0.02


def test_everybody_in_a_photo_can_be_looked_at(browser, port, photos):
    browser.get(f"http://127.0.0.1:{port}/")
    choose(browser, photos["two"])
    wait_for(browser, "status", "1 person, 2 hands")
    first, source = canvas(browser), element(browser, "contact").get_attribute("src")
    Select(element(browser, "person")).select_by_index(1)
    WebDriverWait(browser, 10).until(lambda _: changed(first, canvas(browser)) > 0.02)
    assert element(browser, "contact").get_attribute("src") != source


def test_the_keyboard_reaches_everything_and_everything_has_a_name(browser, port, photos):
    ready(browser, port, photos["one"])
    browser.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(20):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(browser.execute_script("return document.activeElement.id"))
    order = [
        "file",
        "open-camera",
        "cut",
        "opacity",
        "view",
        "show-hand",
        "show-head",
        "colour",
        "reset",
        "save-all",
        "save-glb",
    ]
    assert [name for name in reached if name in order][: len(order)] == order
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('input, select, button, canvas, img')].filter(one =>"
        " !(one.labels && one.labels.length) && !one.textContent && !one.alt && !one.ariaLabel && !one.querySelector('img[alt]')).map(one => one.outerHTML)"
    )
    assert unnamed == []


@pytest.fixture
def phone(browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The same browser with a telephone's screen and fingers."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
    yield browser
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_phone_needs_no_sideways_scrolling_and_two_fingers_zoom(phone, port, photos):
    ready(phone, port, photos["one"])
    widths = phone.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths == [390, 390]
    stage = element(phone, "view")
    phone.execute_script("arguments[0].scrollIntoView({block: 'center'})", stage)
    before = (canvas(phone)[..., 3] > 0).sum()
    box = phone.execute_script(
        "const r = arguments[0].getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]", stage
    )

    def touch(kind: str, apart: float) -> None:
        points = (
            []
            if kind == "touchEnd"
            else [{"x": box[0] + s * apart, "y": box[1], "id": i} for i, s in enumerate((-1, 1))]
        )
        phone.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 120)
    for apart in (110, 90, 75, 60):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    assert (canvas(phone)[..., 3] > 0).sum() < 0.6 * before


def test_several_photos_wait_in_a_row_and_a_video_is_told_what_to_do(browser, port, photos, tmp_path):
    film = tmp_path / "clip.mp4"
    film.write_bytes(b"\0\0\0\x18ftypmp42")
    browser.get(f"http://127.0.0.1:{port}/")
    element(browser, "file").send_keys("\n".join(map(str, (photos["one"], film, photos["bad"], photos["other"]))))
    wait_for(browser, "status", "one.png: 1 person, 1 hand")
    WebDriverWait(browser, 60).until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, "#photos button")) == 2)
    said = element(browser, "error").text
    assert "clip.mp4 is a video. In a terminal: handface predict clip.mp4" in said and "bad<b>.jpg: This file" in said
    first = element(browser, "overlay").get_attribute("src")
    browser.find_elements(By.CSS_SELECTOR, "#photos button")[1].click()
    wait_for(browser, "status", "other.png: 1 person, 1 hand")
    assert element(browser, "overlay").get_attribute("src") != first


def test_examples_and_the_camera_need_no_file(browser, port):
    browser.get(f"http://127.0.0.1:{port}/")
    browser.find_element(By.CSS_SELECTOR, ".example").click()
    wait_for(browser, "status", "temple.jpg: nobody found")  # the network of these tests knows two pictures only
    element(browser, "open-camera").click()
    WebDriverWait(browser, 30).until(
        lambda _: browser.execute_script("return document.getElementById('live').videoWidth") > 0
    )
    element(browser, "take").click()
    wait_for(browser, "status", "camera ")
    assert not element(browser, "camera").is_displayed()


def test_the_overlay_can_be_drawn_aside_and_thinned(browser, port, photos):
    ready(browser, port, photos["one"])
    for name, value in (("cut", 40), ("opacity", 25)):
        browser.execute_script(
            "const one = document.getElementById(arguments[0]); one.value = arguments[1]; one.dispatchEvent(new Event('input'))",
            *(name, value),
        )
    look = browser.execute_script(
        "const s = getComputedStyle(document.getElementById('overlay')); return [s.clipPath, s.opacity]"
    )
    assert "40%" in look[0] and float(look[1]) == 0.25
    frame = element(browser, "frame")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", frame)
    ActionChains(browser).drag_and_drop_by_offset(frame, frame.size["width"] // 4, 0).perform()
    assert abs(float(element(browser, "cut").get_property("value")) - 75) < 3
