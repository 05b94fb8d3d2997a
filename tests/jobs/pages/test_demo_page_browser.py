"""handface demo-page in a real headless browser."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.jobs.pages.page_server import SIZE, Known, png, serving, two_people_picture
from tests.model.outputs.synthetic import picture, prediction


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    executable, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    assert executable and driver, "the page tests need a browser: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = executable
    for flag in (
        *("headless", "no-sandbox", "disable-dev-shm-usage", "disable-quic", "no-first-run", "disable-sync"),
        *("use-angle=swiftshader", "enable-unsafe-swiftshader"),  # WebGL without a GPU
        *("disable-gpu-rasterization", "disable-gpu-compositing"),  # all else is drawn quicker without it
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
    # bad files are answered with 4xx, which the browser logs; and the 3D view is read back to be put on the page
    expected = ("status of 4", "favicon", "GPU stall due to ReadPixels")
    unexpected = [text for text in messages if not any(one in text for one in expected)]
    assert not unexpected, unexpected


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
    choose(browser, photos["bad"])
    wait_for(browser, "error", "bad<b>.jpg: This file cannot be used")
    wait_for(browser, "status", "Still shown: other.png: 1 person, 1 hand")


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
