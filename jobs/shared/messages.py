"""What a verb says on stderr while it works: its log, how much of it, and a line every few seconds in which it says nothing else."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOG_VARIABLE = "HANDFACE_LOG"  # level name, INFO by default
QUIET, VERBOSE = "--quiet", "--verbose"
HEARTBEAT = 5.0  # seconds of silence, longer in runs of hours
_SLOWEST = 60.0
_PATIENT = {"demo-page", "jobs"}  # they wait for people and for clusters
log = logging.getLogger("handface")


def take_level(arguments: list[str]) -> str:
    """Remove `--quiet` and `--verbose` from a verb's flags and return the level: theirs, or that of HANDFACE_LOG, or INFO.

    What follows `--` belongs to another command. Raises ValueError for both flags at once, or a level that does not exist.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given = [one for one in arguments[:end] if one in (QUIET, VERBOSE)]
    arguments[:end] = [one for one in arguments[:end] if one not in (QUIET, VERBOSE)]
    if len(set(given)) > 1:
        raise ValueError(f"{QUIET} and {VERBOSE} together: choose one")
    if given:
        return "WARNING" if given[-1] == QUIET else "DEBUG"
    level = os.environ.get(LOG_VARIABLE, "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"{LOG_VARIABLE}={level} is no log level; use one of DEBUG, INFO, WARNING, ERROR")
    return level


def start_logging(level: str) -> None:
    """Log to stderr through rich: ours from `level` on, others' only warnings."""
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    log.setLevel(level)


def wants_bar() -> bool:
    """Whether a progress bar may be drawn: on a terminal, unless --quiet."""
    return sys.stderr.isatty() and log.isEnabledFor(logging.INFO)


def pause_after(seconds: float) -> float:
    """Seconds until the next line of a run that has lasted `seconds`: 5 at first, a minute after twenty."""
    return min(_SLOWEST, max(HEARTBEAT, seconds / 20))


@contextmanager
def heartbeat(verb: str) -> Iterator[None]:
    """While the block runs without a terminal, say that it still works whenever nothing was logged for a while."""
    if sys.stderr.isatty() or verb in _PATIENT or os.environ.get("RANK", "0") != "0":
        yield
        return
    spoken, ended = _Listener(), threading.Event()
    start = time.monotonic()

    def beat() -> None:
        while not ended.wait(0.5):
            now = time.monotonic()
            if now - spoken.last >= pause_after(now - start) + 0.5:
                log.info("%s: at work, %.0f s so far", verb, now - start)

    thread = threading.Thread(target=beat, daemon=True)
    logging.getLogger().addHandler(spoken)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        logging.getLogger().removeHandler(spoken)


class _Listener(logging.Handler):
    """Notes when something was last logged."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Note the time."""
        self.last = time.monotonic()
