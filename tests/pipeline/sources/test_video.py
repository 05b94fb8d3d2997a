"""Films: times from the stream, the listed frame is the one that is read, turned and mirrored tracks, odd names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from handface.pipeline.contract.images.orientation import upright
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.names.addresses import AddressRefusedError
from handface.pipeline.sources import SourceConfig, open_source
from handface.pipeline.sources.boxes import film_orientation
from handface.pipeline.sources.video import VideoFrames, frame_time
from tests.pipeline.films import number_of, numbered, with_durations, with_matrix, write_film

# A second of 30 frames/s, then one frame every three seconds, then a fast end: what phones write when light changes.
DURATIONS = [1 / 30] * 60 + [3.0] * 10 + [1 / 30] * 60


@pytest.fixture(scope="module")
def variable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_film(tmp_path_factory.mktemp("film") / "clip.mp4", numbered(len(DURATIONS)))
    return with_durations(path, DURATIONS)


def test_times_are_those_of_the_stream(variable: Path) -> None:
    with VideoFrames(str(variable)) as frames:
        found = [(time, number_of(frame)) for time, frame in frames]
    starts = np.concatenate([[0], np.cumsum(np.round(np.array(DURATIONS) * 1000) / 1000)[:-1]])
    assert [number for _, number in found] == list(range(len(DURATIONS)))
    np.testing.assert_allclose([time for time, _ in found], starts, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([0.0, 0.5, 0.5, 0.2, 1.0], [0.0, 0.5, 0.6, 0.7, 1.0]),  # two streams joined into one
        ([0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.1, 0.2, 0.3, 0.4]),  # no times at all
    ],
)
def test_times_always_grow(tmp_path: Path, told: list[float], found: list[float]) -> None:
    class Told:
        """The film's decoder, but for the times."""

        def __init__(self, capture: cv2.VideoCapture) -> None:
            self.capture, self.next = capture, iter(told)

        def get(self, what: int) -> float:
            return 1000 * next(self.next) if what == cv2.CAP_PROP_POS_MSEC else self.capture.get(what)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.capture, name)

    with VideoFrames(str(write_film(tmp_path / "clip.mp4", numbered(5)))) as frames:
        frames._capture, frames._rate = Told(frames._capture), 10.0  # type: ignore[assignment]
        assert [time for time, _ in frames] == pytest.approx(found)


@pytest.mark.parametrize("step", [0.5, 1.0, 5.0])
def test_the_frame_that_was_listed_is_read_from_wherever_a_worker_starts(variable: Path, step: float) -> None:
    with VideoFrames(str(variable)) as frames:
        shown = {f"{time:.3f}": number_of(frame) for time, frame in frames}
    items = list(open_source([str(variable)], SourceConfig(frame_step=step, scene_threshold=1)))
    assert len(items) >= 6
    with VideoFrames(str(variable)) as kept_open:
        for item in reversed(items):
            time = frame_time(item)
            assert time is not None
            with VideoFrames(item.uri) as fresh:
                for frames in (fresh, kept_open):
                    frame = frames.at(time)
                    assert frame is not None and number_of(frame) == shown[f"{time:.3f}"], item.member


def test_no_frame_is_made_up_where_none_begins(variable: Path) -> None:
    with VideoFrames(str(variable)) as frames:
        assert frames.at(4.321) is None and frames.at(1e6) is None
        assert number_of(frames.at(0.0)) == 0


MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


@pytest.mark.parametrize("orientation", MATRICES)
def test_turned_and_mirrored_tracks_come_out_upright(tmp_path: Path, orientation: int) -> None:
    corner = np.zeros((120, 160, 3), np.uint8)
    corner[:40, :60], corner[:40, 60:] = (250, 40, 40), (40, 40, 250)
    film = write_film(tmp_path / "film.mp4", [corner] * 3)
    with VideoFrames(str(film)) as frames:
        plain = next(iter(frames))[1]
    with_matrix(film, MATRICES[orientation])
    assert film_orientation(str(film)) == orientation
    with VideoFrames(str(film)) as frames:
        turned = next(iter(frames))[1]
    assert np.array_equal(turned, upright(plain, orientation))


@pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mp4", "film %03d [1] #2.mp4", "concat:a|b.mp4", "ü 名前.mp4"])
def test_no_name_is_taken_for_a_protocol_or_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shutil.copy(write_film(tmp_path / "plain.mp4", numbered(3)), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    items = list(open_source([name]))
    assert [item.member for item in items] == ["t=0.000"]
    with VideoFrames(name) as frames:
        assert [number_of(frame) for _, frame in frames] == [0, 1, 2]


def test_films_from_elsewhere_are_not_opened() -> None:
    for address in ("http://127.0.0.1:9/film.mp4", "s3://bucket/film.mp4", "rtsp://127.0.0.1/film.mp4"):
        with pytest.raises(AddressRefusedError):
            VideoFrames(address)
    (item,) = open_source(["http://127.0.0.1:9/film.mp4"])
    assert item.problem is Reason.BAD_ADDRESS and "download it first" in item.detail


def test_folders_and_patterns_of_films(tmp_path: Path) -> None:
    for name in ("b.MOV", "a.mp4"):
        shutil.copy(write_film(tmp_path / "x.mp4", numbered(2)), tmp_path / name)
    (tmp_path / "x.mp4").unlink()
    for argument in (str(tmp_path), f"{tmp_path}/*.*", f"{tmp_path}/{{a.mp4,b.MOV}}"):
        assert [Path(item.uri).name for item in open_source([argument])] == ["a.mp4", "b.MOV"]


def test_a_damaged_index_is_no_reason_to_fail(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", numbered(2))
    data = film.read_bytes()
    rng = np.random.default_rng(0)
    start = data.index(b"moov") - 4
    for _ in range(200):
        broken = bytearray(data)
        for at in rng.integers(start, len(data), 4):
            broken[at] = rng.integers(256)
        film.write_bytes(broken)
        assert film_orientation(str(film)) in (None, *range(1, 9))
