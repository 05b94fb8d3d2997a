from __future__ import annotations

from dataclasses import astuple, replace

import cv2
import numpy as np
import pytest
import torch

from handface.model.bodies import load_body
from handface.model.fitting.config import FitConfig
from handface.model.prediction.prediction import Detection, NobodyFoundError
from handface.model.prediction.predictor import Predictor, PredictorConfig
from handface.model.prediction.tracking import Tracker
from handface.model.prediction.video import VideoPredictor, is_cut, thumbnail
from tests.model.marked_photo import KnowingDetector, Mark, config, network, photo, predictor

RATE = 25.0


def walk(frames: int, start: float = 150.0, step: float = 2.0, side="right") -> list[Mark]:
    return [Mark((start + step * k, 120.0), (start + 45 + step * k, 150.0), side) for k in range(frames)]


def run(marks: list[list[Mark]], batch: int = 4, width: int = 400, height: int = 260):
    frames = ((k / RATE, photo(some, width, height)) for k, some in enumerate(marks))
    return list(VideoPredictor(predictor(*marks, batch=batch)).predict(frames))


def test_the_first_frame_is_the_photos_own_prediction():
    mark = walk(1)[0]
    (frame,) = run([[mark]])
    still = predictor([mark]).predict(photo([mark], 400, 260)).persons[0]
    person = frame.prediction.persons[0]
    np.testing.assert_allclose(person.head.vertices, still.head.vertices, atol=1e-6)
    assert astuple(person.camera) == pytest.approx(astuple(still.camera), rel=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("fit", [None, FitConfig()])
def test_smoothed_parameters_pose_the_smoothed_meshes(side, fit):
    rng = np.random.default_rng(2)
    shaken = [
        replace(mark, head=tuple(mark.head + rng.normal(0, 2, 2)), hand=tuple(mark.hand + rng.normal(0, 2, 2)))
        for mark in walk(4, side=side)
    ]
    video = VideoPredictor(predictor(*[[mark] for mark in shaken], fit=fit))
    for frame in video.predict((k / RATE, photo([mark], 400, 260)) for k, mark in enumerate(shaken)):
        (person,) = frame.prediction.persons
        assert (person.fit is not None) == (fit is not None)
        for part, turned in ((person.hand, side), (person.head, "right")):
            body = load_body(part.body, part.convention, side=turned)
            out = body(**{name: torch.from_numpy(value)[None] for name, value in part.parameters.items()})
            np.testing.assert_allclose(out.vertices[0], part.vertices + part.deformation, atol=1e-4)
            np.testing.assert_allclose(out.keypoints[0], part.keypoints_3d, atol=1e-4)


def test_the_first_focal_length_is_kept_also_over_a_frame_that_could_not_be_fitted(monkeypatch):
    marks = walk(3)
    made = predictor(*[[mark] for mark in marks], batch=1, fit=FitConfig())
    fit, told = made.fitter.fit, []

    def not_the_second(persons, pictures, before):
        told.append(pictures[0].focal)
        return list(persons) if len(told) == 2 else fit(persons, pictures, before)

    monkeypatch.setattr(made.fitter, "fit", not_the_second)
    frames = VideoPredictor(made).predict((k / RATE, photo([mark], 400, 260)) for k, mark in enumerate(marks))
    first, _, last = (frame.prediction.persons[0].camera for frame in frames)
    assert told == [None, first.focal, first.focal] and last.focal == first.focal


def test_a_walking_head_is_followed_by_one_track():
    marks = walk(40)
    frames = run([[mark] for mark in marks])
    assert [frame.time for frame in frames] == [k / RATE for k in range(40)]
    assert {person.track for frame in frames for person in frame.prediction.persons} == {0}
    for mark, frame in zip(marks, frames, strict=True):
        (person,) = frame.prediction.persons
        centre = person.camera.project(np.zeros(3, np.float32))
        assert np.abs(centre - mark.head).max() < 8  # 2 px a frame; less than four frames behind


def test_noise_of_the_detector_hardly_moves_the_crop():
    rng = np.random.default_rng(1)
    jitter = rng.normal(0, 3, (40, 2))
    mark = Mark((200.0, 120.0), (245.0, 150.0))
    shaken = [replace(mark, head=(200.0 + x, 120.0 + y), hand=(245.0 + x, 150.0 + y)) for x, y in jitter]
    image = photo([mark], 400, 260)
    found = [[one] for one in shaken]
    video = VideoPredictor(predictor(*found))
    frames = video.predict((k / RATE, image) for k in range(40))
    origins = np.array([frame.prediction.persons[0].crop[:2, 2] for frame in frames])
    assert origins[10:].std(0).max() < 0.6 * jitter[10:].std(0).min()


def test_two_people_keep_their_numbers_when_they_pass_and_the_detector_swaps_their_order():
    first = walk(20, start=100, step=2)
    second = [
        replace(mark, head=(mark.head[0], 190.0), hand=(mark.hand[0], 215.0), size=30) for mark in walk(20, 260, -2)
    ]
    marks = [[a, b] if k % 2 else [b, a] for k, (a, b) in enumerate(zip(first, second, strict=True))]
    for frame in run(marks):
        by_number = {person.track: person for person in frame.prediction.persons}
        assert set(by_number) == {0, 1}
        assert by_number[0].detection.face[:, 1].mean() > 150  # the lower one was named first in the first frame


@pytest.mark.parametrize("step", [0.6, 10.0, 3600.0])
def test_a_slow_film_has_as_many_people_as_a_fast_one(step):
    tracker = Tracker()
    numbers = [
        [track.number for track, _ in tracker.update([mark.detection()], k * step)] for k, mark in enumerate(walk(5))
    ]
    assert numbers == [[0]] * 5
    assert tracker.update([], 5 * step)[0][1] is None  # hidden in the next frame
    assert tracker.update([], 6 * step) == []


def test_a_hidden_person_is_predicted_for_a_while_and_then_gone():
    mark = walk(1)[0]
    marks = [[mark]] * 5 + [[]] * 20
    image = photo([mark], 400, 260)
    frames = list(VideoPredictor(predictor(*marks)).predict((k / RATE, image) for k in range(25)))
    counts = [len(frame.prediction.persons) for frame in frames]
    assert counts[:16] == [1] * 16 and counts[18:] == [0] * 7  # half a second is 12.5 frames
    assert frames[4].prediction.persons[0].detection is not None
    assert frames[6].prediction.persons[0].detection is None
    assert frames[-1].prediction.reason == "an empty room"


def test_one_frame_with_the_wrong_side_changes_nothing():
    marks = [[mark] for mark in walk(10)]
    marks[5] = [replace(marks[5][0], side="left")]
    frames = run(marks)
    assert {frame.prediction.persons[0].side for frame in frames} == {"right"}
    assert {frame.prediction.persons[0].track for frame in frames} == {0}


def test_two_hands_at_one_face_are_two_tracks():
    tracker = Tracker()
    right = Mark((200.0, 150.0), (240.0, 180.0), size=60.0)
    left = replace(right, hand=(160.0, 180.0), side="left")
    for k in range(4):
        alive = tracker.update([right.detection(), left.detection()], k / RATE)
        assert [(track.number, track.side) for track, _ in alive] == [(0, "right"), (1, "left")]


def test_somebody_else_far_away_is_a_new_track():
    tracker = Tracker()
    tracker.update([walk(1)[0].detection()], 0.0)
    alive = tracker.update([walk(1, start=330)[0].detection()], 1 / RATE)
    assert [(track.number, found is None) for track, found in alive] == [(0, True), (1, False)]


def test_frames_stream_through_in_constant_memory():
    """No frame is read more than a batch ahead of the answer, and nothing of finished tracks is kept."""
    read = 0

    def frames():
        nonlocal read
        image = photo([Mark((200.0, 120.0), (245.0, 150.0))], 400, 260)
        for k in range(60):
            read += 1
            yield k / RATE, image

    class Blinking:
        """Sees somebody else, elsewhere, every 20 frames."""

        def __init__(self):
            self.calls = -1

        def __call__(self, image: np.ndarray) -> list[Detection]:
            self.calls += 1
            if self.calls % 20 > 2:
                raise NobodyFoundError("gone")
            return [Mark((100.0 + self.calls * 4, 120.0), (145.0 + self.calls * 4, 150.0)).detection()]

    video = VideoPredictor(Predictor(network, config(), Blinking(), True, PredictorConfig(batch=4)))
    for answered, _ in enumerate(video.predict(frames()), start=1):
        assert read - answered < 4
        assert max(len(video._boxes), len(video._persons), len(video._tracker.tracks)) <= 2
    assert answered == 60


@pytest.mark.parametrize("batch", [1, 4])
def test_the_confidence_of_a_frame_is_that_of_its_own_detection(batch):
    marks, scores = walk(5), [0.9, 0.8, None, 0.2, 0.3]

    left = list(zip(marks, scores, strict=True))

    class Doubting:
        def __call__(self, image: np.ndarray) -> list[Detection]:
            mark, score = left.pop(0)
            return [] if score is None else [replace(mark.detection(), confidence=score)]

    video = VideoPredictor(Predictor(network, config(), Doubting(), True, PredictorConfig(batch=batch)))
    frames = video.predict((k / RATE, photo([mark], 400, 260)) for k, mark in enumerate(marks))
    # of a hidden person that of the last sighting
    assert [frame.prediction.persons[0].confidence for frame in frames] == [0.9, 0.8, 0.8, 0.2, 0.3]


def test_after_a_cut_people_are_new_and_have_their_own_side():
    """Two rooms, one after the other; before a person stands where another stood."""
    rng = np.random.default_rng(1)
    rooms = [cv2.resize(rng.integers(0, 160, (9, 12, 3), np.uint8), (400, 260)) for _ in range(2)]
    marks = [walk(1, side=side)[0] for side in ["right"] * 6 + ["left"] * 6]
    frames = [(k / RATE, np.maximum(photo([mark], 400, 260), rooms[k // 6])) for k, mark in enumerate(marks)]
    found = [
        frame.prediction.persons for frame in VideoPredictor(predictor(*[[mark] for mark in marks])).predict(frames)
    ]
    assert [(one.track, one.side) for (one,) in found] == [(0, "right")] * 6 + [(1, "left")] * 6


def test_what_moves_or_flickers_is_no_cut():
    room = cv2.resize(np.random.default_rng(1).integers(0, 200, (9, 12, 3), np.uint8), (400, 260))
    moved = cv2.warpAffine(room, np.float32([[1, 0, 12], [0, 1, 5]]), (400, 260), borderMode=cv2.BORDER_REFLECT)
    first, grey = thumbnail(room), thumbnail(np.full_like(room, 128))
    for after in (thumbnail(moved), thumbnail(room // 2), thumbnail(255 - (255 - room) // 2), grey):
        assert not is_cut(first, after) and not is_cut(after, first)
    assert is_cut(first, thumbnail(room[::-1, ::-1]))


def test_a_video_whose_time_stands_still_is_refused():
    mark = walk(1)[0]
    video = VideoPredictor(Predictor(network, config(), KnowingDetector([mark], [mark]), True))
    with pytest.raises(ValueError, match="in order of time"):
        list(video.predict([(0.0, photo([mark], 400, 260))] * 2))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("hidden", [0, 5])
def test_two_people_who_walk_past_each_other_keep_their_numbers(seed, hidden):
    """Same height and size, detector noise, changing order and times; the one behind is hidden for some frames around the meeting."""
    rng = np.random.default_rng(seed)
    tracker, time = Tracker(), 0.0
    for k in range(61):
        time += rng.uniform(0.5, 1.5) / RATE
        along = 60 * (time * RATE / 30 - 1)  # they meet after 30 steps
        people = [Mark((300 + side * along, 150.0), (340 + side * along, 180.0)) for side in (1, -1)]
        noisy = [
            replace(p, head=tuple(p.head + rng.normal(0, 1, 2)), hand=tuple(p.hand + rng.normal(0, 1, 2)))
            for p in people
        ]
        order = [0] if abs(k - 30) <= hidden // 2 and hidden else ([0, 1] if k == 0 else rng.permutation(2).tolist())
        found = [noisy[which].detection() for which in order]
        number_of = {id(one): track.number for track, one in tracker.update(found, time) if one is not None}
        if abs(along) > 8:  # nearer than that nobody can tell them apart
            assert [number_of[id(one)] for one in found] == order, k


def test_a_hand_that_turns_at_once_keeps_its_number():
    tracker = Tracker()
    for k in range(30):
        x = 240 + 10 * abs(k % 4 - 2)  # there and back, 10 pixels a frame
        alive = tracker.update([Mark((200.0, 150.0), (float(x), 180.0)).detection()], k / RATE)
        assert [track.number for track, _ in alive] == [0]


@pytest.mark.parametrize("rate", [15.0, 30.0])
def test_the_overlay_hardly_lags_behind_half_a_face_a_second_without_a_fit(rate):
    frames = int(2 * rate)
    speed = 60.0  # pixels a second; the face is 120 wide
    marks = [Mark((150.0 + speed * k / rate, 120.0), (195.0 + speed * k / rate, 150.0)) for k in range(frames)]
    video = VideoPredictor(predictor(*[[mark] for mark in marks]))
    answers = video.predict((k / rate, photo([mark], 400, 260)) for k, mark in enumerate(marks))
    lags = [
        mark.head[0] - frame.prediction.persons[0].camera.project(np.zeros(3, np.float32))[0]
        for mark, frame in zip(marks, answers, strict=True)
    ]
    assert np.abs(lags).max() < 3
