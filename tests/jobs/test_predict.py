"""handface predict: inputs good and bad, what is written, what the exit code says."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from handface.jobs.cli import main_for
from handface.jobs.demonstration.pictures import demo_files, png_header
from handface.jobs.predict import Config, run
from handface.model.network.topology import TopologyError
from handface.model.prediction.prediction import Detection, NobodyFoundError
from handface.model.weights import named
from handface.model.weights.checkpoint import save_dice
from handface.model.weights.named import load_network
from handface.model.weights.unpickle import WeightsError
from handface.pipeline.annotators.analyser import DetectorError
from handface.predict import people
from handface.predict.inputs import list_inputs
from tests.model.marked_photo import Mark

WIDTH, HEIGHT = 240, 200
GREY, DARK = 128, 30  # levels of the pictures in which there is one person, and nobody


class ByBrightness:
    """One person in middle-grey pictures, two in light ones, nobody in dark ones; fails on black ones."""

    def __call__(self, image: np.ndarray) -> list[Detection]:
        level = image.mean()
        if level < 5:
            raise DetectorError("ValueError: not finite")
        if level < 60:
            raise NobodyFoundError("a face, but no hand")
        people = [Mark((80.0, 80.0), (110.0, 100.0), size=30), Mark((170.0, 110.0), (150.0, 130.0), "left", 25)]
        return [mark.detection() for mark in people[: 1 if level < 180 else 2]]


REAL = people.PeopleDetector


@pytest.fixture(autouse=True)
def quick_detector(monkeypatch):
    monkeypatch.setattr(people, "PeopleDetector", ByBrightness)


@pytest.fixture(autouse=True)
def fresh_weights(monkeypatch, tmp_path_factory):
    """As a preset that comes without weights."""
    monkeypatch.setattr(named, "EMBEDDED", tmp_path_factory.getbasetemp() / "none")


def grey(path, level=GREY, size=(WIDTH, HEIGHT), mode="RGB"):
    Image.new("RGB", size, (level,) * 3).convert(mode).save(path)
    return path


def predict(tmp_path, *inputs, **options) -> tuple[int, dict]:
    output = tmp_path / "out"
    code = run(Config(inputs=tuple(map(str, inputs)), output=output, model="dice-nano", **options))
    return code, json.loads((output / "summary.json").read_text())


def test_a_folder_goes_on_past_bad_files_and_lists_them(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    grey(folder / "one.png")
    grey(folder / "two.jpg", 220)
    grey(folder / "nobody.jpg", DARK)
    grey(folder / "black.png", 0)
    grey(folder / "tiny.png", size=(20, 20))
    (folder / "cut.jpg").write_bytes((folder / "two.jpg").read_bytes()[:300])
    (folder / "html.jpg").write_bytes(b"<html>moved</html>")
    (folder / "empty.png").write_bytes(b"")
    (folder / "bomb.png").write_bytes(png_header(30_000, 30_000))
    code, summary = predict(tmp_path, folder, batch_size=4)
    assert code == 1
    named = {
        kind: {name.rsplit("/", 1)[-1]: value for name, value in summary[kind].items()}
        for kind in ("persons", "nobody", "failed")
    }
    assert named["persons"] == {"one.png": 1, "two.jpg": 2}
    assert named["nobody"] == {"nobody.jpg": "a face, but no hand"}
    assert set(named["failed"]) == {"black.png", "tiny.png", "cut.jpg", "html.jpg", "empty.png", "bomb.png"}
    assert named["failed"]["tiny.png"] == "too small: 20x20 pixels"
    assert "30000x30000" in named["failed"]["bomb.png"] and "HTML" in named["failed"]["html.jpg"]
    assert "not finite" in named["failed"]["black.png"]
    shown = capsys.readouterr()
    assert "9 inputs: 2 with people (3 people, 3 hands), 1 without, 6 failed" in shown.out
    assert all(name in shown.out for name in (*named["failed"], "nobody.jpg"))
    assert shown.err.count("UNTRAINED") >= 2


def test_what_is_written_for_a_photo(tmp_path):
    code, summary = predict(tmp_path, grey(tmp_path / "a.png", 220), meshes="glb,ply,obj")
    assert code == 0 and summary["trained"] is False
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert record["trained"] is False and (record["width"], record["height"]) == (WIDTH, HEIGHT)
    assert [person["side"] for person in record["persons"]] == ["right", "left"]
    person = record["persons"][1]
    with np.load(tmp_path / "out/a.npz", allow_pickle=False) as arrays:
        vertices = arrays["person1/head/vertices"]
        np.testing.assert_allclose(arrays["person1/hand/pose"], person["hand"]["parameters"]["pose"], rtol=1e-6)
        assert arrays["person1/head/contact"].shape == vertices.shape[:1]
        assert ["weak", *arrays["person1/camera"]] == list(person["camera"].values())
    drawn = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert drawn.shape[0] > HEIGHT  # the banner
    red = (drawn[: drawn.shape[0] - HEIGHT].astype(int) @ [1, -1, 0]) > 150
    assert red.mean() > 0.5
    for index in (0, 1):
        for kind in ("glb", "ply", "obj"):
            assert (tmp_path / f"out/a_{index}.{kind}").stat().st_size > 10_000


def test_a_trained_checkpoint_has_no_banner_and_no_notice(tmp_path, capsys):
    folder = save_dice(load_network("dice-nano").network, tmp_path / "trained", trained=True)
    output = tmp_path / "out"
    assert run(Config(inputs=(str(grey(tmp_path / "a.png")),), output=output, model=str(folder))) == 0
    assert json.loads((output / "a.json").read_text())["trained"] is True
    assert Image.open(output / "a.png").size == (WIDTH, HEIGHT)
    assert "UNTRAINED" not in capsys.readouterr().err


def test_nobody_anywhere_is_exit_code_1(tmp_path):
    code, summary = predict(tmp_path, grey(tmp_path / "a.png", DARK), pictures=False)
    assert code == 1 and not summary["failed"] and len(summary["nobody"]) == 1
    assert not (tmp_path / "out/a.png").exists() and (tmp_path / "out/a.json").exists()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_picture_is_read(tmp_path, mode):
    path = grey(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), 140, mode=mode)
    code, summary = predict(tmp_path, path, pictures=False)
    assert code == 0 and list(summary["persons"].values()) == [1]


def test_photos_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT), (GREY,) * 3).save(tmp_path / "a.jpg", exif=exif)
    predict(tmp_path, tmp_path / "a.jpg", pictures=False)
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert (record["width"], record["height"]) == (HEIGHT, WIDTH)


def test_equal_names_from_different_folders_do_not_overwrite_each_other(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        grey(tmp_path / name / "a.png")
    code, _ = predict(tmp_path, tmp_path / "x", tmp_path / "y", pictures=False)
    assert code == 0
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"a.json", "a-2.json", "summary.json"}


def test_a_photo_that_is_named_twice_is_predicted_once(tmp_path):
    code, summary = predict(tmp_path, grey(tmp_path / "a.png"), tmp_path / "a.png", tmp_path, pictures=False)
    assert code == 0 and len(summary["persons"]) == 1
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"a.json", "summary.json"}


def test_results_of_an_earlier_run_are_told_of(tmp_path, caplog):
    for name in ("a", "b"):
        grey(tmp_path / f"{name}.png")
    predict(tmp_path, tmp_path / "a.png", pictures=False)
    predict(tmp_path, tmp_path / "a.png", pictures=False)
    assert "earlier run" not in caplog.text, "the same input is written anew"
    predict(tmp_path, tmp_path / "b.png", pictures=False)
    assert f"earlier run's results of {tmp_path / 'a.png'} (network" in caplog.text
    (tmp_path / "out" / "summary.json").write_text("no record")
    code, _ = predict(tmp_path, tmp_path / "b.png", pictures=False)
    assert code == 0


def test_a_missing_file_is_listed_and_the_others_are_done(tmp_path):
    code, summary = predict(tmp_path, tmp_path / "absent.png", grey(tmp_path / "a.png"), pictures=False)
    assert code == 1 and len(summary["persons"]) == 1
    assert "does not exist" in summary["failed"][str(tmp_path / "absent.png")]


def write_video(path, levels, rate=10.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (WIDTH, HEIGHT))
    for level in levels:
        writer.write(np.full((HEIGHT, WIDTH, 3), level, np.uint8))
    writer.release()
    return path


def test_a_video_becomes_a_video_and_a_table(tmp_path):
    path = write_video(tmp_path / "clip.mp4", [GREY] * 6 + [220] * 4)
    code, summary = predict(tmp_path, path)
    assert code == 0 and summary["persons"] == {str(path): 2}
    table = pq.read_table(tmp_path / "out/clip.parquet")
    assert table.schema.metadata[b"trained"] == b"false"
    rows = table.to_pylist()
    assert [(row["frame"], row["track"]) for row in rows] == [(k, 0) for k in range(6)] + [
        (k, track) for k in range(6, 10) for track in (0, 1)
    ]
    assert rows[3]["time"] == pytest.approx(0.3) and len(rows[0]["hand_pose"]) == 45 and len(rows[0]["camera"]) == 3
    drawn = cv2.VideoCapture(str(tmp_path / "out/clip.mp4"))
    assert int(drawn.get(cv2.CAP_PROP_FRAME_COUNT)) == 10
    assert drawn.get(cv2.CAP_PROP_FRAME_HEIGHT) > HEIGHT  # the banner
    codec = int(drawn.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
    assert codec in (b"VP90", b"vp09", b"h264", b"avc1")  # what browsers play
    facts = summary["videos"][str(path)]
    assert facts["codec"] in ("VP9", "H.264") and facts["frames"] == 10 and facts["mean_rate"] == pytest.approx(10)
    assert table.schema.metadata[b"mesh"] == b"parametric"
    row = rows[3]
    assert np.shape(row["face_keypoints_2d"]) == (68, 3) and np.shape(row["hand_keypoints_2d"]) == (21, 3)
    assert all(np.shape(row[f"{part}_keypoints_3d"])[1] == 3 for part in ("hand", "head"))
    assert {table.schema.field(f"{part}_contact_vertices").type.value_type for part in ("hand", "head")} == {pa.int32()}


def test_meshes_of_a_video_are_refused_before_any_work(tmp_path):
    path = write_video(tmp_path / "clip.mp4", [GREY] * 2)
    with pytest.raises(ValueError, match=r"clip\.mp4 is a video: leave --meshes out"):
        run(Config(inputs=(str(path), str(grey(tmp_path / "a.png"))), output=tmp_path / "out", meshes="glb"))
    assert not (tmp_path / "out").exists()


def test_an_unreadable_video_is_listed_and_the_photos_are_done(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 100)
    code, summary = predict(tmp_path, tmp_path / "broken.mp4", grey(tmp_path / "a.png"), pictures=False)
    assert code == 1 and len(summary["persons"]) == 1
    assert "not a video that can be opened" in summary["failed"][str(tmp_path / "broken.mp4")]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "dice-xxl"}, WeightsError, "no such preset"),
        ({"hand_model": "free-head"}, TopologyError, "hand"),
        ({"device": "cuda:99"}, ValueError, "device 'cuda:99' cannot be used"),
        ({"meshes": "glb,stl"}, ValueError, "no such choice as stl"),
        ({"format": "coco,obj"}, ValueError, "no such choice as obj"),
    ],
)
def test_what_cannot_run_at_all(tmp_path, options, error, message):
    settings = {"model": "dice-nano"} | options
    with pytest.raises(error, match=message):
        run(Config(inputs=(str(grey(tmp_path / "a.png")),), output=tmp_path / "out", **settings))
    assert not (tmp_path / "out").exists()


def test_what_cannot_run_is_exit_code_2_and_one_line(tmp_path, capsys):
    path = str(grey(tmp_path / "a.png"))
    assert main_for("predict", [path, "--output", str(tmp_path / "out"), "--model", "absent"]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("handface predict: error: absent: no such preset") and "\n" not in message


def test_an_empty_folder_is_exit_code_2(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert main_for("predict", [str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 2
    assert "no picture, video, tar or list in this folder" in capsys.readouterr().err


def test_listing_takes_videos_whole_and_folders_apart(tmp_path):
    grey(tmp_path / "b.png")
    grey(tmp_path / "a.png")
    found = list(list_inputs([str(tmp_path), "clip.MP4", "http://127.0.0.1:9/x.jpg?size=2"]))
    assert [(one.stem, one.is_video) for one in found] == [("a", False), ("b", False), ("clip", True), ("x", False)]


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["x/a.jpg", "y/a.jpg", "z/a-2.jpg"], ["a", "a-2", "a-2-2"]),
        (["z/a-2.jpg", "x/a.jpg", "y/a.jpg"], ["a-2", "a", "a-3"]),
        (["x/a.jpg", "y/A.jpg"], ["a", "A-2"]),
        (["summary.jpg", "keypoints_coco.png"], ["summary-2", "keypoints_coco-2"]),
        (["a.jpg", "a_0_contact.png", "a_12_parameters.png"], ["a", "a_0_contact-2", "a_12_parameters-2"]),
    ],
)
def test_no_result_overwrites_another(names, stems):
    addresses = [f"http://127.0.0.1:9/{name}" for name in names]
    assert [one.stem for one in list_inputs(addresses)] == stems


def test_every_photo_has_its_own_answer_whatever_the_files_are_called(tmp_path):
    for folder, name, level in (("x", "a", GREY), ("y", "a", 220), ("z", "a-2", DARK), ("z", "summary", GREY)):
        (tmp_path / folder).mkdir(exist_ok=True)
        grey(tmp_path / folder / f"{name}.png", level)
    inputs = [tmp_path / name for name in ("x/a.png", "y/a.png", "z/a-2.png", "z/summary.png")]
    code, summary = predict(tmp_path, *inputs)
    assert code == 0 and summary["hands"] == {str(inputs[0]): 1, str(inputs[1]): 2, str(inputs[3]): 1}
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    hands = {stem: len(one["persons"]) for stem, one in found.items() if stem != "summary"}
    assert hands == {"a": 1, "a-2": 2, "a-2-2": 0, "summary-2": 1}


def test_an_input_is_never_overwritten(tmp_path):
    photo, film = grey(tmp_path / "me.png"), write_video(tmp_path / "clip.mp4", [GREY] * 2)
    for one in (photo, film):
        before = one.read_bytes()
        with pytest.raises(ValueError, match="overwritten by a picture of the results: give --output another"):
            run(Config(inputs=(str(one),), output=tmp_path, model="dice-nano"))
        assert one.read_bytes() == before and sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "me.png"]


def test_results_of_an_earlier_run_are_no_inputs(tmp_path, caplog):
    folder = tmp_path / "in"
    folder.mkdir()
    grey(folder / "a.png")
    write_video(folder / "b.mp4", [GREY] * 2)
    (folder / "a.json").write_text("{}")  # labels of one's own
    config = Config(inputs=(str(folder),), output=folder / "out", model="dice-nano")
    found = []
    for _ in range(2):
        assert run(config) == 0
        summary = json.loads((folder / "out/summary.json").read_text())
        found.append(summary["files"])
    assert found == [{str(folder / "a.png"): "a", str(folder / "b.mp4"): "b"}] * 2
    assert "left out" in caplog.text and "of an earlier predict" in caplog.text
    explicit = list(list_inputs([str(folder / "out/a.png")]))
    assert [one.stem for one in explicit] == ["a"]


def test_a_table_that_cannot_be_written_leaves_no_film(tmp_path, monkeypatch):
    def full(self, table, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    clip = write_video(tmp_path / "clip.mp4", [GREY] * 3)
    code, summary = predict(tmp_path, clip)
    assert code == 1 and "No space left" in summary["failed"][str(clip)]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"summary.json"}


def test_a_detector_that_fails_on_a_video_costs_only_that_video(tmp_path):
    bad = write_video(tmp_path / "bad.mp4", [GREY] * 2 + [0] * 2)
    good = write_video(tmp_path / "good.mp4", [GREY] * 2)
    code, summary = predict(tmp_path, bad, good)
    assert code == 1 and summary["failed"] == {str(bad): "the detector failed: ValueError: not finite"}
    assert summary["persons"] == {str(good): 1}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"good.mp4", "good.parquet", "summary.json"}


def test_the_pipelines_detector_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(people, "PeopleDetector", REAL)
    monkeypatch.setenv("HANDFACE_MODELS", str(tmp_path / "models"))
    files = dict(demo_files())
    for name in ("touch_astronaut_right.jpg", "touch_astronaut_left.jpg", "plain_coffee.jpg"):
        (tmp_path / name).write_bytes(files[name])
    code, summary = predict(tmp_path, tmp_path)
    assert code == 0 and list(summary["persons"].values()) == [1, 1]
    assert list(summary["nobody"].values()) == ["no face"]
    for side in ("right", "left"):
        (person,) = json.loads((tmp_path / f"out/touch_astronaut_{side}.json").read_text())["persons"]
        assert person["side"] == side


def test_a_limit_and_what_is_known_of_each_person(tmp_path, capsys):
    inputs = [grey(tmp_path / f"{name}.png", 220) for name in "abc"]
    code, summary = predict(tmp_path, *inputs, limit=2, format="coco")
    assert code == 0 and list(summary["persons"]) == list(summary["people"]) == [str(path) for path in inputs[:2]]
    first, second = summary["people"][str(inputs[0])]
    assert (first["side"], second["side"]) == ("right", "left") and 0 <= first["presence"] <= 1
    assert first["level"] == "low" and "untrained" in first["words"]
    table = capsys.readouterr().out
    assert table.count(f"{inputs[0]}: The network is untrained") == 2 and "quality" in table
    coco = json.loads((tmp_path / "out/keypoints_coco.json").read_text())
    assert len(coco["images"]) == 2 and len(coco["annotations"]) == 4 and coco["info"]["trained"] is False
    page = (tmp_path / "out/index.html").read_text()
    assert "a_1" in page and (tmp_path / "out/page/a_1_overlay.jpg").exists()


def test_named_parameters_and_no_page_without_pictures(tmp_path):
    predict(tmp_path, grey(tmp_path / "a.png"), format="smplx,coco", pictures=False)
    assert (tmp_path / "out/keypoints_coco.json").exists()
    with np.load(tmp_path / "out/a_0_parameters.npz", allow_pickle=False) as found:
        assert found["mano_hand_pose"].shape == (1, 45) and not found["trained"]
    assert not (tmp_path / "out/index.html").exists() and not (tmp_path / "out/page").exists()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_exit_code_2(tmp_path, capsys, limit):
    path = str(grey(tmp_path / "a.png"))
    assert main_for("predict", [path, "--output", str(tmp_path / "out"), "--limit", str(limit)]) == 2
    assert (
        capsys.readouterr().err
        == f"handface predict: error: --limit {limit}: a whole number of at least 1 is expected\n"
    )
    assert not (tmp_path / "out").exists()
