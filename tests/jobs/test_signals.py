"""What SIGTERM leaves: the results that are there, nothing half written, and code 143."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from handface.jobs import predict as verb
from handface.jobs.shared.signals import sigterm_raises


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    """As in a program that has no way of its own with SIGTERM: Ray, which other tests start in this process, has one."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def test_sigterm_is_an_exception_within_the_block_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, sigterm_raises():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is before


def test_a_program_that_has_its_own_way_keeps_it() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        with sigterm_raises():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [signal.SIGTERM]


@pytest.mark.parametrize("end", [KeyboardInterrupt, signal.SIGTERM])
def test_predict_that_is_ended_leaves_a_summary_of_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: object
) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    honest = verb.predict_photos

    def ended(predictor, photos):  # type: ignore[no-untyped-def]
        yield next(honest(predictor, photos))
        if isinstance(end, signal.Signals):
            os.kill(os.getpid(), end)
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(verb, "predict_photos", ended)
    config = verb.Config(inputs=(str(tmp_path / "*.png"),), output=tmp_path / "out", model="dice-nano")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        verb.run(config)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["nobody"]) == [str(tmp_path / "a.png")]
    assert (tmp_path / "out" / "index.html").exists() and "the same command begins anew" in caplog.text
