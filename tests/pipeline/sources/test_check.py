"""Listings are looked at before they are frozen: what cannot be right makes no plan, and everything read is said."""

from __future__ import annotations

import csv
import gzip
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.names.patterns import expand
from handface.pipeline.sources import SourceConfig, open_source
from handface.pipeline.sources.check import Listing, ListingError
from tests.pipeline.images import encode, photo

URL = "https://example.org/{}.jpg"
ROWS = [{"url": URL.format(i), "licence": "CC0"} for i in range(40)]


def listing(*uris: Path | str, skip: bool = False, config: SourceConfig = SourceConfig()) -> Listing:
    return Listing(lambda notes: open_source([str(uri) for uri in uris], config, notes), skip)


def read(*uris: Path | str, config: SourceConfig = SourceConfig()) -> list[SourceItem]:
    return list(listing(*uris, config=config))


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def csv_text() -> str:
    return "url,licence\n" + "".join(f"{row['url']},CC0\n" for row in ROWS)


def stray_quote(at: int) -> str:
    rows = csv_text().splitlines()
    rows[at] = rows[at].replace("CC0", '"CC0')
    return "\n".join(rows) + "\n"


def half_gzip() -> bytes:
    rng = np.random.default_rng(0)
    rows = "".join(f"https://example.org/{rng.integers(1 << 60)}.jpg,CC0\n" for _ in range(4000))
    whole = gzip.compress(f"url,licence\n{rows}".encode())
    return whole[: len(whole) // 2]


BAD = {
    "missing.csv": (None, "does not exist|No such file"),
    "column.csv": ("URL,licence\nhttps://a.org/1.jpg,CC0\n", "--sources.url-column URL"),
    "near.csv": ("image_url,licence\nhttps://a.org/1.jpg,CC0\n", "--sources.url-column image_url"),
    "half.csv.gz": (half_gzip(), "EOFError|ended before"),
    "quote.csv": (stray_quote(11), "quotation mark|unexpected end"),
    "paired.csv": (stray_quote(11).replace("/30.jpg,CC0", '/30.jpg,"CC0"'), "quotation mark"),
    "empty.csv": ("", "no column 'url'"),
    "header.csv": ("url,licence\n", "no input to work on"),
    "twice.csv": ("url,url\nhttps://a.org/1.jpg,x\n", "2 columns are called 'url'"),
    "mostly.jsonl": ('{"url": "https://a.org/1.jpg"}\n' + '{"link": "x"}\n' * 3, "3 rows name no input, only 1 do"),
    "nothing.tar": (bytes(10240), "no input to work on"),
    "broken.parquet": (b"PAR1 and no more", "parquet|Parquet|magic"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_listing_makes_no_plan(tmp_path: Path, name: str) -> None:
    content, words = BAD[name]
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(ListingError, match=words):
        read(path)


def test_what_can_be_read_of_a_bad_listing_is_planned_on_request(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good.csv", csv_text()), write(tmp_path / "half.csv.gz", half_gzip())
    whole = listing(good, bad, skip=True)
    items = list(whole)
    assert sum(item.problem is None for item in items) == whole.inputs > 40
    assert items[-1].problem is Reason.UNREADABLE and whole.done
    with pytest.raises(ListingError, match="no input to work on"):
        list(listing(tmp_path / "none.csv", skip=True))


def test_nothing_in_a_folder_says_what_else_is_there(tmp_path: Path) -> None:
    for name in ("a.docx", "b.docx", "archive.tar.gz", ".hidden.jpg"):
        write(tmp_path / name, b"x")
    with pytest.raises(ListingError, match=r"\.docx 2") as caught:
        read(tmp_path)
    assert ".tar.gz 1" in str(caught.value) and "hidden 1" in str(caught.value)
    with pytest.raises(ListingError, match="nothing matches"):
        read(f"{tmp_path}/*.jpg")


def test_what_was_read_is_said_and_a_changed_list_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, output = write(tmp_path / "list.csv", csv_text() + "\n,CC0\n"), str(tmp_path / "out")
    caplog.set_level(logging.INFO, "handface")
    first = listing(path)
    list(first)
    first.finish(output)
    assert f"{path}: 41 rows" in caplog.text and "40 inputs" in caplog.text and "missing_column 1" in caplog.text
    caplog.clear()
    listing(path).finish(output)
    assert not caplog.records
    write(path, csv_text() + f"{URL.format(99)},CC0\n")
    listing(path).finish(output)
    assert "list.csv has changed since this run was planned" in caplog.text and "41 rows of then" in caplog.text


def test_tab_separated_captions_need_no_closed_quotes(tmp_path: Path) -> None:
    captions = ["plain", '"Hello, said the sign', 'a 12" ruler', '"closed"', ""]
    rows = "".join(f"{caption}\t{i}.jpg\n" for i, caption in enumerate(captions))
    items = read(write(tmp_path / "list.tsv", "caption\turl\n" + rows))
    assert [item.column("caption") for item in items] == [*captions[:4], None]
    assert [Path(item.uri).name for item in items] == [f"{i}.jpg" for i in range(5)]
    quoted = read(write(tmp_path / "quoted.tsv", '"caption"\t"url"\n"a ""b""\tc"\t"1.jpg"\n'))
    assert quoted[0].column("caption") == 'a "b"\tc'


def test_a_large_cell_or_a_torn_row_is_its_own_problem(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    huge = "data:image/png;base64," + "A" * (2 << 20)
    text = f'url,picture\n1.jpg,x\n2.jpg,{huge}\n3.jpg,x\n4.jpg,x,too,many\n5.jpg,"a"b\n6.jpg,\n'
    items = read(write(tmp_path / "list.csv", text))
    assert [item.problem is None for item in items] == [True, False, True, False, False, True]
    assert "larger than field limit" in items[1].detail and "4 cells for 2 columns" in items[3].detail
    assert csv.field_size_limit() == before


def test_line_breaks_inside_closed_quotes_are_part_of_the_cell(tmp_path: Path) -> None:
    items = read(write(tmp_path / "list.csv", 'url,caption\n1.jpg,"two\nlines, here"\n2.jpg,one\n'))
    assert [item.column("caption") for item in items] == ["two\nlines, here", "one"]


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf"), "", "NaN", "nan", "None", "null", " "])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_empty_cells_are_unknown(tmp_path: Path, nothing: object, suffix: str) -> None:
    path = tmp_path / f"list.{suffix}"
    rows = [{"url": "1.jpg", "licence": nothing}]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        write(path, json.dumps(rows[0]) + "\n")
    else:
        write(path, f"url,licence\n1.jpg,{nothing if nothing is not None else ''}\n")
    (item,) = read(path)
    assert item.columns == ()


def test_bytes_and_vectors_stay_behind_and_are_named_once(tmp_path: Path) -> None:
    table = pa.table(
        {
            "url": pa.array([b"1.jpg", b"2.jpg"], pa.binary()),
            "licence": pa.array([b"CC0", b"CC-BY-4.0"], pa.binary()),
            "thumb": pa.array([b"\xff" * 900, b"\xd8" * 900], pa.binary()),
            "embedding": pa.array([[0.5] * 64] * 2),
            "box": pa.array([{"x": 1}, {"x": 2}]),
            "essay": pa.array(["a" * 9000, "short"]),
            "width": pa.array([640, 480]),
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")
    whole = listing(tmp_path / "list.parquet")
    items = list(whole)
    assert [dict(item.columns) for item in items] == [
        {"licence": "CC0", "width": "640"},
        {"licence": "CC-BY-4.0", "essay": "short", "width": "480"},
    ]
    (line,) = (line for line in whole.lines() if "do not travel" in line)
    assert all(name in line for name in ("thumb", "embedding", "box", "essay"))
    write(tmp_path / "list.jsonl", json.dumps({"url": "1.jpg", "vector": [1, 2], "x": "\ud800"}) + "\n")
    (item,) = read(tmp_path / "list.jsonl")
    assert dict(item.columns) == {"x": "\\ud800"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("suffix", ["csv", "txt", "jsonl", "tsv"])
def test_byte_order_marks_are_understood(tmp_path: Path, encoding: str, suffix: str) -> None:
    head = {"csv": "url,licence\n", "tsv": "url\tlicence\n"}.get(suffix, "")
    row = {"csv": "ü.jpg,CC0\n", "tsv": "ü.jpg\tCC0\n", "txt": "ü.jpg\n", "jsonl": '{"url": "ü.jpg"}\n'}[suffix]
    items = read(write(tmp_path / f"list.{suffix}", (head + row * 2).encode(encoding)))
    assert [Path(item.uri).name for item in items] == ["ü.jpg"] * 2


def test_schemes_in_capitals_are_schemes(tmp_path: Path) -> None:
    items = read(write(tmp_path / "list.txt", "HTTP://example.org/A.jpg\nS3://bucket/b.jpg\n"))
    assert [item.uri for item in items] == ["http://example.org/A.jpg", "s3://bucket/b.jpg"]


def test_rows_that_name_what_must_not_be_opened_are_problems(tmp_path: Path) -> None:
    rows = ["1.jpg", "2.jpg", "3.jpg", "simplecache::http://127.0.0.1/a.jpg", "/etc/passwd", "gopher://x/y"]
    items = read(write(tmp_path / "list.txt", "\n".join(rows)))
    refused = [item.problem for item in items[3:]]
    assert refused == [Reason.BAD_ADDRESS, Reason.BAD_ADDRESS, Reason.UNKNOWN_SCHEME]
    path = write(tmp_path / "other.txt", "/somewhere/else.jpg\n")
    (item,) = open_source([str(path)], any_file=True)
    assert item.problem is None and item.uri == "/somewhere/else.jpg"


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """`parts [v1]` with three pictures and two lists; a Spark folder beside it."""
    folder = tmp_path / "parts [v1]"
    (folder / "lists").mkdir(parents=True)
    for name in ("00.jpg", "01.JPG", "02.png"):
        write(folder / name, encode(photo(), "PNG" if name.endswith("png") else "JPEG"))
    for i in range(2):
        pq.write_table(pa.table({"url": [f"../0{i}.jpg"]}), folder / "lists" / f"{i}.parquet")
    spark = tmp_path / "urls.parquet"
    spark.mkdir()
    for i in range(3):
        pq.write_table(pa.table({"url": [URL.format(i)]}), spark / f"part-0000{i}.snappy.parquet")
    write(spark / "_SUCCESS", b"")
    write(spark / ".part-00000.crc", b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("argument", "count"),
    [
        ("parts [v1]", 3),
        ("parts [v1]/*.jpg", 1),
        ("parts [v1]/*.*", 3),
        ("parts [v1]/lists", 2),
        ("parts [v1]/lists/*.parquet", 2),
        ("parts [v1]/lists/{0..1}.parquet", 2),
        ("parts [v1]/lists/{0,1}.parquet", 2),
        ("parts [[]v1]/0[01].*", 2),
        ("urls.parquet", 3),
        ("urls.parquet/", 3),
        ("*.parquet", 3),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_patterns_folders_and_brackets(shelf: Path, argument: str, count: int, remote: bool) -> None:
    import fsspec

    if not remote:
        assert len(read(f"{shelf}/{argument}")) == count
        return
    memory = fsspec.filesystem("memory")
    memory.put(str(shelf), f"/{shelf.name}", recursive=True)
    assert len(read(f"memory://{shelf.name}/{argument}")) == count


def test_braces_are_counted_as_shells_do() -> None:
    assert list(expand("https://a.org/{00..02}.tar")) == [f"https://a.org/0{i}.tar" for i in range(3)]
    assert list(expand("/nowhere/{b,a}{9..11}")) == [f"/nowhere/{x}{i}" for x in "ba" for i in (9, 10, 11)]
    assert list(expand("/nowhere/{plain}")) == ["/nowhere/{plain}"]
    with pytest.raises(ValueError, match="more than"):
        list(expand("/nowhere/{0..99999999}"))


def test_photos_films_and_tars_in_one_folder_and_lists_beside_them(tmp_path: Path) -> None:
    for name in ("a.heic", "b.ppm", "notes.txt", "table.csv", "raw.dng"):
        write(tmp_path / name, b"x")
    whole = listing(tmp_path)
    assert [Path(item.uri).name for item in whole] == ["a.heic", "b.ppm"]
    assert whole.notes.ignored == {".txt": 1, ".csv": 1, ".dng": 1}
    assert any(".dng 1" in line for line in whole.lines())


@pytest.mark.parametrize("seed", range(4))
def test_mutated_lists_end_in_items_or_one_problem(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = pa.table({"url": [row["url"] for row in ROWS], "licence": ["CC0"] * 40})
    pq.write_table(table, tmp_path / "x.parquet")
    wholes = {
        "csv": csv_text().encode(),
        "tsv": csv_text().replace(",", "\t").encode(),
        "txt": csv_text().encode(),
        "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
        "parquet": (tmp_path / "x.parquet").read_bytes(),
        "csv.gz": gzip.compress(csv_text().encode()),
    }
    pieces = [
        b'"',
        b"\n",
        b"\0",
        b"\xff\xfe",
        b"\\ud800",
        b"{",
        b",",
        b"\t",
        b"::",
        b"file:///",
        b"NaN",
        b"\r",
        b"\xe9",
    ]
    for _ in range(40):
        for suffix, whole in wholes.items():
            data = bytearray(whole)
            for _ in range(rng.integers(1, 6)):
                at = int(rng.integers(len(data)))
                data[at : at + int(rng.integers(3))] = pieces[rng.integers(len(pieces))]
            if rng.random() < 0.2:
                data = data[: rng.integers(len(data))]
            for item in open_source([str(write(tmp_path / f"list.{suffix}", bytes(data)))]):
                text = json.dumps([item.uri, item.member, item.columns, item.detail])
                json.loads(text)
                item.uri.encode("utf-8")
                "".join(name + value for name, value in item.columns).encode("utf-8")
