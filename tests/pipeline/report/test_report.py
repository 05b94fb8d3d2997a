"""The report's data and page: what is counted, what is chosen, and that nothing in it can become markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.sample import Crop, KeypointDepth
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.parts import write_part
from handface.pipeline.engine.record import Record
from handface.pipeline.report.collect import ReportConfig, collect
from handface.pipeline.report.draw import crop_corners, depth_thumbnail, file_thumbnail, nearness, points_permille
from handface.pipeline.report.page import render

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def picture(uri: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))


def write_parts(folder: Path, make_sample: Any, parts: int = 2, each: int = 5, **source: Any) -> None:
    """Finished parts: `each` samples kept, three inputs turned away in two stages."""
    for number in range(parts):
        records = [
            Record(SourceItem(f"photos/{seed}.jpg"), sample=make_sample(seed, side=64, **source))
            for seed in range(number * each, (number + 1) * each)
        ]
        records += [
            Record(SourceItem(f"gone-{number}.jpg"), reason=Reason.CORRUPT, stage="decode", detail="cut off"),
            Record(SourceItem(str(folder / "no_hand.jpg")), reason=Reason.NO_HAND, stage="detect"),
            Record(SourceItem("all.tar", member=f"{number}.png"), reason=Reason.NO_HAND, stage="detect", detail=EVIL),
        ]
        write_part(Folder(str(folder)), f"{number:016x}", records, ("decode", "detect", "pack"), "f")


def embedded(page: str) -> dict[str, Any]:
    text = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    return json.loads(text)


def test_funnel_reasons_and_examples(tmp_path: Path, make_sample: Any) -> None:
    Image.new("RGB", (300, 200), (200, 10, 10)).save(tmp_path / "no_hand.jpg")
    write_parts(tmp_path, make_sample)
    report = collect([str(tmp_path)])
    assert (report.funnel.inputs, report.kept, len(report.samples)) == (16, 10, 10)
    counts = {(row["stage"], row["reason"]): row["count"] for row in report.reasons}
    assert counts == {("decode", "corrupt"): 2, ("detect", "no_hand"): 4}
    corrupt, no_hand = report.reasons
    assert corrupt["examples"][0] == {"name": "gone-0.jpg", "detail": "cut off", "image": None}
    assert picture(no_hand["examples"][0]["image"]).size == (96, 64)
    assert no_hand["examples"][1]["name"] == "all.tar#0.png"
    rows = embedded(render(report))["funnel"]
    assert [(row["stage"], row["entered"], row["left"]) for row in rows[:3]] == [
        ("decode", 16, 14),
        ("detect", 14, 10),
        ("pack", 10, 10),
    ]


def test_samples_are_bounded_and_spread_over_all_parts(tmp_path: Path, make_sample: Any) -> None:
    write_parts(tmp_path, make_sample, parts=4, each=5)
    seen: list[int] = []
    report = collect([str(tmp_path)], ReportConfig(max_samples=8, examples=1), seen.append)
    assert report.kept == 20
    assert [sum(s["part"] == f"part-{n:016x}.tar" for s in report.samples) for n in range(4)] == [2, 2, 2, 2]
    assert seen == [1] * 8
    assert all(len(row["examples"]) == 1 for row in report.reasons)


def test_plain_shards_have_no_funnel(tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    write_tar(tmp_path / "a.tar", [make_sample(1), make_sample(2, depth=False)])
    report = collect([str(tmp_path / "a.tar")])
    assert (report.kept, len(report.samples), report.funnel.parts) == (2, 2, 0)
    assert [sample["depth"] is None for sample in report.samples] == [False, True]
    with pytest.raises(FileNotFoundError):
        collect([str(tmp_path / "nothing")])


def test_damaged_input_is_left_out_with_a_warning(
    tmp_path: Path, make_sample: Any, write_tar: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.tar").write_bytes(b"<html>" * 100)
    good = make_sample(2)
    write_tar(tmp_path / "good.tar", [good, ("0" * 16, {"jpg": good.image, "json": b"{}", "safetensors": b""})])
    report = collect([str(tmp_path)])
    assert [sample["key"] for sample in report.samples] == [good.key]
    assert "broken.tar" in caplog.text
    assert "sample 0000000000000000" in caplog.text


def test_no_text_becomes_markup(tmp_path: Path, make_sample: Any) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "no_hand.jpg")
    write_parts(tmp_path, make_sample, author=EVIL, uri="javascript:alert(3)//" + EVIL, columns={EVIL: EVIL})
    page = render(collect([str(tmp_path)]))
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "<img src=x" not in page
    assert embedded(page)["samples"][0]["source"]["author"] == EVIL


def test_the_page_needs_nothing_from_outside_and_allows_only_itself(tmp_path: Path, make_sample: Any) -> None:
    write_parts(tmp_path, make_sample)
    page = render(collect([str(tmp_path)]))
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|@import|url\(""", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    for element, directive in (("script", "script-src"), ("style", "style-src")):
        content = page.split(f"<{element}>")[1].split(f"</{element}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'")
    assert render(collect([str(tmp_path)])) == page


def test_points_and_corners_in_known_places() -> None:
    # The centre of the first pixel of a 100 px crop lies half a pixel, 5 permille, from the edge.
    assert points_permille(np.array([[0.0, 0.0, 1], [99.5, 49.5, 1]]), 100) == [[5, 5], [1000, 500]]
    shifted = Crop(((2.0, 0.0, 10.5), (0.0, 2.0, 20.5), (0.0, 0.0, 1.0)), 100, 640, 480)
    assert crop_corners(shifted)[0] == [10.0, 20.0]
    assert crop_corners(shifted)[2] == [210.0, 220.0]


def test_nearness_knows_the_depth_kinds() -> None:
    values = np.zeros((89, 2), np.float32)
    values[:, 0] = np.arange(89)
    values[1:, 1] = 1  # point 0 is not valid
    assert nearness(KeypointDepth(values, "affine-inverse"))[:2] == [-1, 0]
    assert nearness(KeypointDepth(values, "affine-inverse"))[-1] == 100
    assert nearness(KeypointDepth(values, "metric"))[-1] == 0
    per_part = nearness(KeypointDepth(values, "affine-per-part"))
    assert (per_part[1], per_part[67], per_part[68], per_part[88]) == (100, 0, 100, 0)
    values[:, 1] = 0
    assert set(nearness(KeypointDepth(values, "metric"))) == {-1}


def test_thumbnails(tmp_path: Path, make_sample: Any) -> None:
    depth = make_sample(0).depth_png
    shown = picture(depth_thumbnail(depth, 64))
    assert shown.size == (64, 64)
    assert sum(shown.getpixel((60, 60))) > sum(shown.getpixel((3, 3)))  # type: ignore[arg-type]
    turned = Image.new("RGB", (400, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    upright = file_thumbnail(tmp_path / "turned.jpg", 100)
    assert upright is not None
    assert picture(upright).size == (50, 100)
    (tmp_path / "bad.jpg").write_bytes(b"<html>")
    assert file_thumbnail(tmp_path / "bad.jpg", 100) is None


@pytest.mark.parametrize("reason", [Reason.EXCLUDED, Reason.NSFW, Reason.OPTOUT, Reason.ROBOTS])
def test_pictures_that_must_not_be_kept_are_named_and_not_shown(tmp_path: Path, reason: Reason) -> None:
    Image.new("RGB", (300, 200), (200, 10, 10)).save(tmp_path / "mine.jpg")
    records = [
        Record(SourceItem(str(tmp_path / "mine.jpg")), reason=one, stage="dedupe") for one in (reason, Reason.BLURRED)
    ]
    write_part(Folder(str(tmp_path)), "0" * 16, records, ("dedupe",), "f")
    shown = {row["reason"]: row["examples"][0]["image"] for row in collect([str(tmp_path)]).reasons}
    assert shown[reason] is None and shown["blurred"].startswith("data:image/jpeg")
