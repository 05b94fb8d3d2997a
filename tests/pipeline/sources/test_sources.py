import csv
import gzip
import io
import json
import tarfile
import tracemalloc

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.sources import SourceConfig, open_source
from handface.pipeline.sources.video import VideoFrames
from tests.pipeline.images import encode, photo

URLS = [f"https://example.org/{i}.jpg" for i in range(5)]


def names(uri, **config) -> list[str]:
    return [item.name for item in open_source([str(uri)], SourceConfig(**config))]


def test_a_folder_is_walked_in_name_order_and_only_images_are_taken(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a/x.webp", "notes.txt.md", "c.jpeg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert names(tmp_path) == [str(tmp_path / n) for n in ("a/x.webp", "b/1.jpg", "b/2.PNG", "c.jpeg")]
    assert names(f"{tmp_path}/**/*.jpg") == [str(tmp_path / "b/1.jpg")]
    assert names(tmp_path / "notes.txt.md") == [str(tmp_path / "notes.txt.md")]  # named by the user: taken


def test_what_is_not_there_is_one_item_with_a_problem(tmp_path):
    (item,) = open_source([str(tmp_path / "nowhere")])
    assert item.problem is Reason.NOT_FOUND
    (item,) = open_source(["gopher://x/y"])
    assert item.problem is Reason.UNKNOWN_SCHEME and "gopher" in item.detail


def write_list(path, rows: list[dict]):
    suffixes = path.name.split(".", 1)[1].removesuffix(".gz")
    if suffixes == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    text = io.StringIO()
    if suffixes == "txt":
        text.write("# a comment\n\n" + "\n".join(row["url"] for row in rows))
    elif suffixes == "jsonl":
        text.write("\n".join(json.dumps(row) for row in rows))
    else:
        writer = csv.DictWriter(text, list(rows[0]), delimiter="\t" if suffixes == "tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)


@pytest.mark.parametrize("suffix", ["txt", "csv", "tsv", "jsonl", "parquet", "txt.gz", "csv.gz", "tsv.gz", "jsonl.gz"])
def test_every_kind_of_list_gives_the_same_items(tmp_path, suffix):
    path = tmp_path / f"list.{suffix}"
    write_list(path, [{"url": url, "LICENSE": "CC0", "width": i} for i, url in enumerate(URLS)])
    items = list(open_source([str(path)], SourceConfig(columns={"LICENSE": "licence"})))
    assert [item.uri for item in items] == URLS and not any(item.problem for item in items)
    if not suffix.startswith("txt"):
        assert items[2].column("licence") == "CC0" and items[2].column("width") == "2"


@pytest.mark.parametrize("column", ["file", "path"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_list_of_files_needs_no_url(tmp_path, suffix, column):
    photos = tmp_path / "photos"
    photos.mkdir()
    rows = [{column: f"photos/{i}.jpg", "licence": "CC0"} for i in range(3)]
    write_list(tmp_path / f"list.{suffix}", rows)
    found = list(open_source([str(tmp_path / f"list.{suffix}")]))
    assert [item.uri for item in found] == [str(photos / f"{i}.jpg") for i in range(3)]
    assert all(dict(item.columns) == {"licence": "CC0"} and item.problem is None for item in found)


def test_a_url_comes_before_a_file_and_two_names_are_not_guessed(tmp_path):
    write_list(tmp_path / "both.csv", [{"file": "a.jpg", "url": URLS[0]}])
    assert names(tmp_path / "both.csv") == URLS[:1]
    write_list(tmp_path / "two.csv", [{"file": "a.jpg", "path": "b.jpg"}])
    (item,) = open_source([str(tmp_path / "two.csv")])
    assert item.problem is Reason.UNREADABLE and "no column 'url'; it has file, path" in item.detail
    write_list(tmp_path / "file.csv", [{"file": "a.jpg"}])
    (item,) = open_source([str(tmp_path / "file.csv")], SourceConfig(url_column="link"))
    assert item.problem is Reason.UNREADABLE and "no column 'link'; it has file" in item.detail


def test_bad_rows_are_items_with_reasons_and_do_not_end_the_list(tmp_path):
    path = tmp_path / "list.jsonl"
    rows = [
        '{"url": "https://a/1.jpg"}',
        "not json",
        "[1]",
        '{"other": 1}',
        '{"url": "ftp://a/b"}',
        '{"url": "rel.jpg"}',
    ]
    path.write_text("\n".join(rows))
    items = list(open_source([str(path)]))
    unreadable, missing, unknown = Reason.UNREADABLE, Reason.MISSING_COLUMN, Reason.UNKNOWN_SCHEME
    assert [item.problem for item in items] == [None, unreadable, unreadable, missing, unknown, None]
    assert "row 2: not JSON" in items[1].detail and "row 4" in items[3].detail
    assert items[5].uri == str(tmp_path / "rel.jpg")
    assert len({item.id for item in items}) == len(items)


def test_a_list_without_the_column_says_which_it_has(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("link,width\nhttps://a/1.jpg,3\n")
    (item,) = open_source([str(path)])
    assert item.problem is Reason.UNREADABLE and "link, width" in item.detail
    assert names(path, url_column="link") == ["https://a/1.jpg"]


def test_a_list_that_breaks_off_keeps_what_came_before(tmp_path):
    rows = "url\n" + "".join(f"https://a/{i}.jpg\n" for i in range(50_000))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(rows.encode())[:-20000])
    *before, last = open_source([str(tmp_path / "cut.csv.gz")])
    assert len(before) > 1000 and not any(item.problem for item in before) and last.problem is Reason.UNREADABLE
    (tmp_path / "wide.csv").write_text("url\n" + "x" * (2 << 20) + "\n")
    assert [item.problem for item in open_source([str(tmp_path / "wide.csv")])] == [Reason.TOO_LARGE]
    (tmp_path / "wide.jsonl").write_text(json.dumps({"url": "https://a/" + "x" * 5000}) + "\n")
    (long,) = open_source([str(tmp_path / "wide.jsonl")])
    assert (
        long.problem is Reason.TOO_LARGE and long.detail == "row 1: text of more than 4096 characters in column 'url'"
    )
    (tmp_path / "deep.jsonl").write_text("[" * 200_000 + "\n" + '{"url": "https://a/1.jpg"}\n')
    assert [item.problem for item in open_source([str(tmp_path / "deep.jsonl")])] == [Reason.UNREADABLE, None]


def test_a_long_list_is_streamed(tmp_path):
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("url,licence\n")
        file.writelines(f"https://example.org/{i}.jpg,CC0\n" for i in range(100_000))
    tracemalloc.start()
    assert sum(1 for _ in open_source([str(path)])) == 100_000
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def add(tar: tarfile.TarFile, name: str, data: bytes, **fields) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def test_a_webdataset_tar_gives_members_with_their_sidecars_and_offsets(tmp_path):
    path = tmp_path / "00000.tar"
    images = [encode(photo(seed=i)) for i in range(2)]
    with tarfile.open(path, "w") as tar:
        for i, image in enumerate(images):
            add(tar, f"{i:09d}.jpg", image)
            add(
                tar, f"{i:09d}.json", json.dumps({"url": f"https://a/{i}", "license": "CC0", "exif": {"a": 1}}).encode()
            )
            add(tar, f"{i:09d}.txt", b"a caption")
    items = list(open_source([str(path)]))
    assert [item.member for item in items] == ["000000000.jpg", "000000001.jpg"]
    assert items[1].column("license") == "CC0" and items[1].column("caption") == "a caption"
    raw = path.read_bytes()
    assert [raw[i.offset : i.offset + i.size] for i in items] == images


def test_a_sidecar_that_is_no_json_costs_only_its_columns(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "1.jpg", encode(photo()))
        add(tar, "1.json", b"[" * 200_000)
    (item,) = open_source([str(tmp_path / "a.tar")])
    assert item.problem is None and item.columns == ()


def test_unsafe_members_and_broken_tars_are_named(tmp_path):
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "../../escape.jpg", b"x")
        add(tar, "link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "fine.jpg", encode(photo()))
    escape, link, fine = open_source([str(path)])
    assert escape.problem and link.problem and fine.problem is None and ".." in escape.detail
    (tmp_path / "text.tar").write_text("hello " * 300)
    (item,) = open_source([str(tmp_path / "text.tar")])
    assert item.problem is Reason.UNREADABLE and "text.tar" in item.detail


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Four seconds at 10 frames/s: three scenes (cuts at 1.5 s and 3.0 s), the frame number in the brightness."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (160, 120))
    for i in range(40):
        colour = [(200, 30, 30), (30, 200, 30), (30, 30, 200)][(i >= 15) + (i >= 30)]
        frame = np.full((120, 160, 3), colour, np.uint8)
        frame[:40] = 4 * i
        writer.write(frame)
    writer.release()
    return path


def test_frames_by_step_and_by_scene(video):
    assert names(video, frame_step=2.0, scene_threshold=1.0) == [f"{video}#t=0.000", f"{video}#t=2.000"]
    assert names(video, frame_step=0.0, scene_threshold=0.5) == [f"{video}#t={t:.3f}" for t in (0, 1.5, 3.0)]
    both = names(video, frame_step=1.0, scene_threshold=0.5)
    assert both == [f"{video}#t={t:.3f}" for t in (0, 1.0, 1.5, 2.5, 3.0)]


def test_a_frame_is_the_same_however_it_is_reached(video):
    with VideoFrames(str(video)) as frames:
        in_order = {round(time, 3): frame for time, frame in frames}
    with VideoFrames(str(video)) as frames:
        for time in (3.2, 0.4, 2.9, 3.0):
            assert np.array_equal(frames.at(time), in_order[time])
            assert abs(int(in_order[time][20, 80, 0]) - 4 * round(time * 10)) < 12
        assert frames.at(99) is None


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video here")
    (item,) = open_source([str(tmp_path / "clip.mp4")])
    assert item.problem is Reason.UNREADABLE and "clip.mp4" in item.detail
