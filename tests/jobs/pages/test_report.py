"""`handface report` end to end, and its page in a real headless browser."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from handface.jobs.cli import main
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.parts import write_part
from handface.pipeline.engine.record import Record

SAMPLES = 150  # more than the sheet draws at once
EVIL = "<img src=x onerror=document.title='owned'></script><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, make_sample: Any) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    records = [
        Record(
            SourceItem(f"{seed}.jpg"),
            sample=make_sample(seed, side=64, author=EVIL if seed == 3 else f"author {seed}", licence="CC0-1.0"),
        )
        for seed in range(SAMPLES)
    ]
    for reason, count in ((Reason.NO_HAND, 30), (Reason.CORRUPT, 5), (Reason.HAND_FAR, 12)):
        stage = "decode" if reason is Reason.CORRUPT else "detect"
        records += [
            Record(SourceItem(f"{reason}-{i}.jpg"), reason=reason, stage=stage, detail=EVIL) for i in range(count)
        ]
    write_part(Folder(str(folder)), "0" * 16, records, ("decode", "detect", "pack"), "f")
    output = folder / "report.html"
    assert main(["report", str(folder), "--output", str(output), "--thumbnail", "96"]) == 0
    return output


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    executable, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    assert executable and driver, "the page tests need a browser: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = executable
    profile, downloads = tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("downloads")
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={profile}",
        "window-size=1400,1600",
    ):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.downloads = downloads  # type: ignore[attr-defined]
    chrome.get(page.as_uri())
    yield chrome
    messages = [entry for entry in chrome.get_log("browser") if "getImageData" not in entry["message"]]  # by a test
    chrome.quit()
    assert not messages, messages


def keys(browser: webdriver.Chrome) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll('.card')].map(card => card.dataset.key)")


def data(page: Path) -> list[dict[str, Any]]:
    text = page.read_text().split('id="data">')[1].split("</script>")[0]
    return json.loads(text)["samples"]


def set_value(browser: webdriver.Chrome, name: str, value: str) -> None:
    browser.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'))",
        name,
        value,
    )


@pytest.fixture(autouse=True)
def _fresh(browser: webdriver.Chrome) -> None:
    browser.execute_script("localStorage.clear()")
    browser.refresh()


def test_summary_is_shown_and_no_text_became_markup(browser: webdriver.Chrome) -> None:
    totals = browser.find_element(By.ID, "totals").text
    assert "197" in totals and "150" in totals and "76.1 %" in totals
    stages = [row.text.split()[:4] for row in browser.find_elements(By.CSS_SELECTOR, "#funnel tbody tr")]
    assert stages[:2] == [["decode", "197", "5", "192"], ["detect", "192", "42", "150"]]
    assert browser.title == "handface report"
    assert not browser.find_elements(By.CSS_SELECTOR, "img[src=x]")
    assert browser.execute_script("return document.scripts.length") == 2


def test_reasons_sort(browser: webdriver.Chrome) -> None:
    def reasons() -> list[str]:
        return [row.get_attribute("data-reason") for row in browser.find_elements(By.CSS_SELECTOR, "#reasons tbody tr")]  # type: ignore[misc]

    assert reasons() == ["no_hand", "hand_far", "corrupt"]
    count, name = (browser.find_element(By.CSS_SELECTOR, f"button[data-sort={by}]") for by in ("count", "reason"))
    count.click()
    assert reasons() == ["corrupt", "hand_far", "no_hand"]
    name.click()
    assert reasons() == ["corrupt", "hand_far", "no_hand"]
    name.click()
    assert reasons() == ["no_hand", "hand_far", "corrupt"]


def test_samples_sort_both_ways(browser: webdriver.Chrome, page: Path) -> None:
    by_contact = [s["key"] for s in sorted(data(page), key=lambda s: s["scores"]["contact"])]
    Select(browser.find_element(By.ID, "sort")).select_by_value("contact")
    assert keys(browser)[:50] == by_contact[:50]
    browser.find_element(By.ID, "direction").click()
    assert keys(browser)[:50] == by_contact[::-1][:50]


def test_samples_filter_by_text_and_score(browser: webdriver.Chrome, page: Path) -> None:
    samples = data(page)
    set_value(browser, "find", "photos/00077 cc0")
    assert keys(browser) == [s["key"] for s in samples if s["source"]["uri"] == "photos/00077.jpg"]
    set_value(browser, "find", "nobody")
    assert keys(browser) == []
    assert browser.find_element(By.ID, "more").text == "Nothing matches."
    set_value(browser, "find", "")
    Select(browser.find_element(By.ID, "sort")).select_by_value("contact")
    set_value(browser, "least", "0.8")
    assert len(keys(browser)) == sum(s["scores"]["contact"] >= 0.8 for s in samples)
    set_value(browser, "least", "")
    Select(browser.find_element(By.ID, "side")).select_by_value("left")
    assert keys(browser) == []  # the synthetic hands are right hands


def test_the_sheet_grows_as_it_is_scrolled(browser: webdriver.Chrome) -> None:
    assert len(keys(browser)) == 120
    browser.execute_script("document.getElementById('more').scrollIntoView()")
    WebDriverWait(browser, 5).until(lambda _: len(keys(browser)) == SAMPLES)


def test_labels_are_drawn_and_can_be_switched_off(browser: webdriver.Chrome) -> None:
    painted = """const c = document.querySelector('.card canvas');
        return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, i) => i % 4 === 3 && v > 0)"""
    browser.execute_script("document.getElementById('sheet').scrollIntoView()")
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script(painted))
    for name in ("draw-face", "draw-hands"):
        browser.find_element(By.ID, name).click()
    time.sleep(0.5)  # nothing must appear: give it the time to
    assert not browser.execute_script(painted)


def test_detail_shows_provenance_and_steps(browser: webdriver.Chrome, page: Path) -> None:
    set_value(browser, "find", "photos/0007")  # 70 to 79
    order = keys(browser)
    browser.find_element(By.CSS_SELECTOR, ".card .picture").click()
    detail = browser.find_element(By.ID, "detail")
    first = next(s for s in data(page) if s["key"] == order[0])
    for text in (first["key"], first["source"]["author"], first["source"]["sha256"], "CC0-1.0", "face_keypoints: toy"):
        assert text in detail.text
    detail.find_element(By.XPATH, ".//button[text()='→']").click()
    assert order[1] in browser.find_element(By.ID, "detail").text
    detail.find_element(By.XPATH, ".//button[text()='close']").click()
    assert not detail.is_displayed()


def test_exclude_list_is_collected_remembered_and_saved(browser: webdriver.Chrome) -> None:
    chosen = keys(browser)[:2]
    for button in browser.find_elements(By.CSS_SELECTOR, ".card .exclude")[:2]:
        button.click()
    browser.refresh()
    download = browser.find_element(By.ID, "download")
    assert download.text == "exclude list (2)"
    browser.find_element(By.ID, "only-excluded").click()
    assert keys(browser) == chosen
    saved = browser.downloads / "exclude.txt"  # type: ignore[attr-defined]
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(saved.parent)})
    download.click()
    WebDriverWait(browser, 10).until(lambda _: saved.exists() and saved.read_text())
    assert saved.read_text() == "\n".join(sorted(chosen)) + "\n"


def test_theme_switches(browser: webdriver.Chrome) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(colour)
    browser.find_element(By.ID, "theme").click()
    assert browser.execute_script(colour) != before


def test_nothing_to_show_fails_and_nothing_there_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(SourceItem("a.jpg"), reason=Reason.NO_FACE, stage="detect")
    write_part(Folder(str(tmp_path / "parts")), "0" * 16, [record], ("detect",), "f")
    output = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "parts"), "--output", str(output)]) == 1
    assert "no_face" in output.read_text()
    assert main(["report", str(tmp_path / "gone")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
