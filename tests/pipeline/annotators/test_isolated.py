import os
import signal
import time
from pathlib import Path

import pytest

from handface.pipeline.annotators.isolated import DetectorError, DetectorHung, Isolated, IsolationConfig


class Toy:
    """A detector that can be told to misbehave."""

    def __init__(self) -> None:
        self.calls = 0

    def add(self, a: int, b: int) -> tuple[int, int, int]:
        self.calls += 1
        return a + b, self.calls, os.getpid()

    def hang(self) -> None:
        time.sleep(60)

    def hang_once(self, marker: str) -> str:
        if not Path(marker).exists():
            Path(marker).touch()
            time.sleep(60)
        return "fine"

    def fail(self) -> None:
        raise ValueError("bad photo")


class Unloadable:
    def __init__(self) -> None:
        raise OSError("model file is missing")


@pytest.fixture
def toy():
    isolated = Isolated(Toy, IsolationConfig(timeout=1.0, recycle_after=3))
    yield isolated
    isolated.close()


def test_results_come_back_and_the_process_is_recycled(toy):
    answers = [toy.call("add", 1, n) for n in range(5)]
    assert [total for total, _, _ in answers] == [1, 2, 3, 4, 5]
    assert [calls for _, calls, _ in answers] == [1, 2, 3, 1, 2]
    assert answers[0][2] != os.getpid() and answers[0][2] != answers[4][2]


def test_a_hang_is_ended_and_retried_once(toy, tmp_path):
    assert toy.call("hang_once", str(tmp_path / "marker")) == "fine"
    assert toy.restarts == 1


def test_two_hangs_are_an_error_and_the_next_call_works(toy):
    with pytest.raises(DetectorHung, match="twice"):
        toy.call("hang")
    assert toy.call("add", 2, 2)[0] == 4


def test_an_exception_is_reported_and_the_process_lives_on(toy):
    first = toy.call("add", 0, 0)[2]
    with pytest.raises(DetectorError, match="ValueError: bad photo"):
        toy.call("fail")
    assert toy.call("add", 0, 0)[2] == first


def test_a_killed_process_is_replaced(toy):
    os.kill(toy.call("add", 0, 0)[2], signal.SIGKILL)
    assert toy.call("add", 1, 1)[0] == 2


def test_a_detector_that_cannot_load_says_why():
    with pytest.raises(DetectorError, match="model file is missing"):
        Isolated(Unloadable).call("anything")
