"""The page over all predictions: complete, from local files only, and inert against hostile names."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace

import pytest

from handface.jobs.page.answers import encode_viewer_mesh
from handface.jobs.page.predictions import PredictionsPage
from handface.model.outputs import OverlayConfig, draw_contact_map, draw_overlay
from handface.model.prediction.prediction import Prediction
from tests.model.outputs.synthetic import picture, prediction

NAME = "</script><img src=x onerror=document.title='owned'>.jpg"
STEM = "a b#1?%"


def make_page(folder):
    page = PredictionsPage(folder, True)
    made = prediction(0)
    overlay = draw_overlay(picture(0), made, OverlayConfig(banner=False))
    maps = [draw_contact_map(person, True) for person in made.persons]
    page.add(NAME, STEM, picture(0), overlay, made, maps, [f"{STEM}.json"])
    page.add("nobody.jpg", "nobody", picture(0), picture(0), Prediction((), 256, 256, True, "no face"), [], [])
    return page.write({"cut.jpg": "corrupt"})


def test_the_page_holds_everything_and_names_stay_text(tmp_path):
    text = make_page(tmp_path).read_text()
    assert "<img src=x" not in text and not re.search(
        r"https?://", text.split("<script", 1)[0].replace("http-equiv", "")
    )
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert [photo["name"] for photo in data["photos"]] == [NAME, "nobody.jpg"] and data["failed"] == {
        "cut.jpg": "corrupt"
    }
    person = data["photos"][0]["hands"][0]
    assert person["level"] == "unknown" and person["presence"] == pytest.approx(0.97) and person["hand_contact"] > 0
    for kind in ("photo", "overlay", "contact"):
        assert 1000 < (tmp_path / f"page/{STEM}_0_{kind}.jpg").stat().st_size < 100_000
    script = (tmp_path / f"page/{STEM}_0.js").read_text()
    label, mesh = json.loads("[" + script.strip().removeprefix("handfaceMesh(").removesuffix(");") + "]")
    assert label == person["label"] and base64.b64decode(mesh) == encode_viewer_mesh(prediction(0).persons[0])


def test_meshes_outside_the_photo_or_not_finite_are_cut_from_the_whole_photo(tmp_path):
    made = prediction(0)
    person = made.persons[0]
    far = replace(person, camera=person.camera.placed(person.camera.scale, 9e4, 9e4))
    made = replace(made, persons=(far,))
    page = PredictionsPage(tmp_path, True)
    page.add("a", "a", picture(0), picture(0), made, [picture(0)], [])
    assert (tmp_path / "page/a_0_photo.jpg").exists()


@pytest.mark.skipif(not (shutil.which("chromedriver") and shutil.which("chromium")), reason="no Chromium")
def test_in_a_browser_from_disk_the_mesh_opens_and_closes(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    path = make_page(tmp_path)
    options = webdriver.ChromeOptions()
    flags = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
    for flag in flags:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get(path.as_uri())
        button = browser.find_element("css selector", "article button")
        button.click()
        WebDriverWait(browser, 20).until(lambda _: button.text == "Close 3D")
        assert len(browser.find_elements("css selector", "article canvas")) == 1
        button.click()
        assert button.text == "Open in 3D" and not browser.find_elements("css selector", "article canvas")
        loaded = "return [...document.images].filter((one) => one.naturalWidth).length"
        WebDriverWait(browser, 20).until(lambda _: browser.execute_script(loaded) == 3)
        assert browser.title == "handface predictions" and browser.get_log("browser") == []
        assert browser.find_element("css selector", "#without tbody").text.splitlines() == [
            "nobody.jpg nobody: no face",
            "cut.jpg failed: corrupt",
        ]
    finally:
        browser.quit()
