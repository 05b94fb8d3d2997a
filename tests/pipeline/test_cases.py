"""Inputs that people have in the wild and that failed once, rebuilt small: each ends as it should, through the command line.

A case is a function that writes its files and returns what `annotate --input` is given; numbers are those of the public reports'
list in the issue tracker.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from handface.counted import counted
from handface.jobs.cli import main
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.sources import open_source
from handface.pipeline.stages.decode import DecodeStage
from handface.pipeline.stages.read import ReadStage
from tests.pipeline.films import number_of, numbered, with_durations, write_film
from tests.pipeline.images import dc_jpeg, encode, photo

JPEG = [encode(photo(seed=seed)) for seed in range(5)]


class Case(NamedTuple):
    """What a listing must give. inputs: usable ones.  turned_away: rows that are no input.  code: of `annotate --check`."""

    make: Callable[[Path], Path | str]
    inputs: int
    turned_away: int = 0
    code: int = 0
    says: str = ""


def pictures(folder: Path, names: Iterable[str]) -> None:
    for name, data in zip(names, JPEG, strict=False):
        (folder / name).write_bytes(data)


def text(folder: Path, name: str, content: str | bytes) -> Path:
    pictures(folder, [f"p{i}.jpg" for i in range(5)])
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(folder: Path, **columns: object) -> Path:
    pictures(folder, [f"p{i}.jpg" for i in range(5)])
    pq.write_table(pa.table(columns), folder / "list.parquet")
    return folder / "list.parquet"


def tar(path: Path, members: dict[str, bytes], **options: object) -> Path:
    with tarfile.open(path, "w", **options) as stream:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            stream.addfile(info, io.BytesIO(data))
    return path


def broken_tar(folder: Path) -> Path:
    path = tar(folder / "badsum.tar", {"a.jpg": JPEG[0], "a.json": b"{}", "b.jpg": JPEG[1]})
    data = bytearray(path.read_bytes())
    at = data.index(b"b.jpg")
    data[at + 148] ^= 1
    path.write_bytes(data)
    return path


def many(folder: Path, argument: str) -> str:
    for place in ("tars", "lists", "clips", "urls.parquet"):
        (folder / place).mkdir()
    pictures(folder, ["p0.jpg", "p1.jpg"])
    for number, name in enumerate("ab"):
        tar(folder / "tars" / f"{name}.tar", {"0.jpg": JPEG[number]})
        pq.write_table(pa.table({"url": [f"../p{number}.jpg"]}), folder / "lists" / f"{number:02d}.parquet")
        pq.write_table(
            pa.table({"url": [f"https://a.org/{name}.jpg"]}), folder / "urls.parquet" / f"part-{number}.parquet"
        )
        shutil.copy(write_film(folder / "clips" / "x.mp4", numbered(3)), folder / "clips" / f"{name}.mp4")
    (folder / "clips" / "x.mp4").unlink()
    return f"{folder}/{argument}"


def brackets(folder: Path) -> Path:
    (folder / "parts [v1]").mkdir()
    pictures(folder / "parts [v1]", ["a.jpg", "b.jpg"])
    return folder / "parts [v1]"


def turned(folder: Path, kind: str) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"tiffinfo": {0x0112: 6}} if kind == "TIFF" else {"exif": exif}
    return text(folder, f"turned.{kind.lower()}", encode(photo(120, 160), kind, **options))


def phone(folder: Path) -> Path:
    pytest.importorskip("pillow_heif").register_heif_opener()
    (folder / "photos").mkdir()
    (folder / "photos" / "IMG_1.HEIC").write_bytes(encode(photo(), "HEIF"))
    (folder / "photos" / "IMG_2.JPG").write_bytes(JPEG[1])
    return folder / "photos"


def mif1(folder: Path) -> Path:
    data = encode(photo(), "AVIF")
    assert data[8:12] == b"avif"
    return text(folder, "mif1.avif", data[:8] + b"mif1" + data[12:])


HUGE = "data:image/png;base64," + "A" * (2 << 20)
CAPTIONS = ["plain one", '"Hello, said the sign', "third", 'fourth 12" ruler', "fifth"]
TSV = "caption\turl\n" + "".join(f"{caption}\tp{i}.jpg\n" for i, caption in enumerate(CAPTIONS))
SPACES = {"a\u00a0b.jpg": JPEG[0], "\u200bz.jpg": JPEG[1], "x\u202ey.jpg": JPEG[2], "two\u3000w.jpg": JPEG[3]}
LATIN = {b"caf\xe9.jpg".decode("utf-8", "surrogateescape"): JPEG[0], "plain.jpg": JPEG[1]}
DOTS = {"0001.rgb.jpg": JPEG[0], "0001.json": json.dumps({"license": "CC0", "url": "https://a.org/1.jpg"}).encode()}
NAN = {"url": ["p0.jpg", "p1.jpg"], "licence": pa.array([float("nan")] * 2), "author": pa.array([None, float("nan")])}
BLOBS = {"url": ["p0.jpg"], "thumb": pa.array([b"\xff" * 999], pa.binary()), "clip": pa.array([[0.5] * 512])}
BOTH = "url,licence,url\np0.jpg,CC0,p1.jpg\n"
ODD = ((4, 2), (3, 1), (2, 4), (1, 4))

CASES = {
    "09 a tar with a name that is no UTF-8": Case(lambda f: tar(f / "l.tar", LATIN, errors="surrogateescape"), 2),
    "10 tsv captions that begin with a quote": Case(lambda f: text(f, "list.tsv", TSV), 5),
    "11 a csv cell of megabytes": Case(
        lambda f: text(f, "big.csv", f"url,x\np0.jpg,\np1.jpg,{HUGE}\np2.jpg,\np3.jpg,\n"), 3, 1
    ),
    "12 a pattern of tars": Case(lambda f: many(f, "tars/*.tar"), 2),
    "12 a pattern of lists": Case(lambda f: many(f, "lists/*.parquet"), 2),
    "12 a pattern of films": Case(lambda f: many(f, "clips/*.mp4"), 2),
    "12 a folder of tars": Case(lambda f: many(f, "tars/"), 2),
    "12 a folder of lists": Case(lambda f: many(f, "lists"), 2),
    "12 a folder of films": Case(lambda f: many(f, "clips"), 2),
    "12 a Spark folder": Case(lambda f: many(f, "urls.parquet/"), 2),
    "12 braces": Case(lambda f: many(f, "tars/{a,b}.tar"), 2),
    "12 a range": Case(lambda f: many(f, "lists/{00..01}.parquet"), 2),
    "12 a pattern of nothing": Case(lambda f: many(f, "nothing/*.tar"), 0, 1, 2, "nothing matches"),
    "13 brackets": Case(brackets, 2),
    "14 a licence that is NaN": Case(lambda f: parquet(f, **NAN), 2),
    "15 bytes and vectors": Case(lambda f: parquet(f, **BLOBS), 1, says="do not travel along: clip"),
    "16 UTF-16": Case(lambda f: text(f, "list.csv", "url,x\np0.jpg,1\np1.jpg,2\n".encode("utf-16")), 2),
    "16 a scheme in capitals": Case(lambda f: text(f, "list.txt", "HTTP://a.org/1.jpg\nhttp://a.org/2.jpg\n"), 2),
    "16 a url column of bytes": Case(lambda f: parquet(f, url=pa.array([b"p0.jpg", b"p1.jpg"], pa.binary())), 2),
    "16 two url columns": Case(lambda f: text(f, "list.csv", BOTH), 0, 1, 2, "2 columns are called 'url'"),
    "20 a turned TIFF": Case(lambda f: turned(f, "TIFF"), 1),
    "21 a turned WebP": Case(lambda f: turned(f, "WEBP"), 1),
    "22 HEIC in a folder": Case(phone, 2),
    "24 AVIF of another brand": Case(mif1, 1),
    "26 a key that ends at the first dot": Case(lambda f: tar(f / "dots.tar", DOTS), 1),
    "27 a broken header": Case(broken_tar, 1, 1, 2, "badsum.tar: damaged or cut off at byte"),
    "28 spaces of other scripts": Case(lambda f: tar(f / "names.tar", SPACES), 4),
    "29 a compressed tar": Case(lambda f: text(f, "p.tar.gz", gzip.compress(b"x")), 0, 1, 2, "unpack it"),
    "32 a colon in a film's name": Case(lambda f: write_film(f / "x.mp4", numbered(2)).rename(f / "a:b.mp4"), 1),
}
CASES |= {
    f"23 sampling {first}": Case(lambda f, s=first: text(f, "odd.jpg", dc_jpeg((s, (1, 1), (1, 1)))), 1)
    for first in ODD
}


def decoded(items: Iterable[SourceItem]) -> list[Record]:
    """As the first stages of `annotate` leave them."""
    records = [Record(item) for item in items]
    for stage in (ReadStage(), DecodeStage()):
        stage.setup()
        stage.start_unit()
        stage([record for record in records if record.alive])
    return records


@pytest.mark.parametrize("name", CASES)
def test_listing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = CASES[name]
    argument = str(case.make(tmp_path))
    code = main(["annotate", "--local", "--check", "--input", argument, "--output", str(tmp_path / "out")])
    printed = capsys.readouterr()
    assert code == case.code
    assert f"\n{counted(case.inputs, 'input')}\n" in f"\n{printed.out}"
    # what cannot be planned has no plan
    assert (f"{counted(case.inputs + case.turned_away, 'input')} in" in printed.out) == (code == 0)
    assert case.says in printed.out + printed.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.code and "Spark" not in name])
def test_pixels(name: str, tmp_path: Path) -> None:
    items = [item for item in open_source([str(CASES[name].make(tmp_path))]) if not item.problem]
    for record in decoded(item for item in items if not item.uri.startswith("http")):
        assert record.alive and record.image is not None, f"{record.item.name}: {record.reason} {record.detail}"
        if name.startswith(("20", "21")):
            assert record.image.shape == (120, 160, 3)


def columns_of(case: str, folder: Path) -> list[dict[str, str]]:
    return [dict(item.columns) for item in open_source([str(CASES[case].make(folder))])]


def test_columns(tmp_path: Path) -> None:
    folders = iter(range(9))

    def columns(case: str) -> list[dict[str, str]]:
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        return columns_of(case, folder)

    assert [row["caption"] for row in columns("10 tsv captions that begin with a quote")] == CAPTIONS
    assert columns("14 a licence that is NaN") == [{}, {}]
    assert columns("15 bytes and vectors") == [{}]
    (row,) = columns("26 a key that ends at the first dot")
    assert row == {"license": "CC0", "url": "https://a.org/1.jpg"}


def test_30_the_frames_that_were_listed(tmp_path: Path) -> None:
    film = write_film(tmp_path / "clip.mp4", numbered(90))
    with_durations(film, [1 / 30] * 45 + [1.0] * 30 + [0.2] * 15)
    records = decoded(open_source([str(film)]))
    assert len(records) >= 34 and all(record.alive for record in records)
    times = [float(record.item.member.removeprefix("t=")) for record in records if record.item.member]
    starts = np.concatenate([np.arange(45) / 30, 1.485 + np.arange(30), 31.485 + 0.2 * np.arange(15)])
    for record, time in zip(records, times, strict=True):
        assert record.image is not None
        assert abs(starts[number_of(record.image)] - time) < 0.02


def test_real_runs_exit_with_2_and_leave_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    for name in ("12 a pattern of nothing", "16 two url columns", "27 a broken header", "29 a compressed tar"):
        folder = tmp_path / name[:2]
        folder.mkdir()
        code = main(["annotate", "--local", "--input", str(CASES[name].make(folder)), "--output", str(out)])
        assert code == 2 and CASES[name].says in capsys.readouterr().err
        assert not (out / "plan" / "units.parquet").exists()
    good = text(tmp_path, "list.csv", "link\np0.jpg\n")
    assert main(["annotate", "--local", "--input", str(good), "--output", str(out)]) == 2
    assert "no column 'url'" in capsys.readouterr().err
    # The mended command joins nothing: the failed ones left no run behind.
    blank = tmp_path / "blank.png"
    blank.write_bytes(encode(np.full((200, 300, 3), 255, np.uint8), "PNG"))
    mended = text(tmp_path, "list.csv", "link\nblank.png\n")
    arguments = ["--sources.url-column", "link", "--detect.segmenter", "off"]
    assert main(["annotate", "--local", "--input", str(mended), *arguments, "--output", str(out)]) == 0


def test_field_limits_of_the_process_stay() -> None:
    assert csv.field_size_limit() == 131072
