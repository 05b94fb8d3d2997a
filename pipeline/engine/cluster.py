"""Finds the Ray cluster to work on: the one already connected, the one RAY_ADDRESS names, or a small local one of our own."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from typing import Any

log = logging.getLogger(__name__)
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Of a cluster that is started here: it listens on loopback alone, sends nothing home, and has no dashboard to send figures to.
_OWN_CLUSTER = _LOOPBACK | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0"}
# Ray's core says so of every pool of actors that Ray Data starts, since their arguments always lie in the object store: neither we nor
# a user can do anything about it. RAY_BACKEND_LOG_LEVEL would hide it behind a line about itself.
_NOISE = re.compile(rb"\] core_worker\.cc:\d+: Actor with class name: .* constructor arguments in the object store")
_STARTS = 3  # Ray gives a start up after half a minute, which a busy machine can need
_STORE_BYTES, _STORE_BYTES_PER_WORKER = 256 << 20, 64 << 20


@contextmanager
def cluster(workers: int, at_least: float = 1) -> Iterator[dict[str, float]]:
    """Connect, yield the cluster's total resources ({"CPU": ..., "GPU": ...}), and leave it as it was found.

    A cluster that was already running is never shut down; one started here ends with the block.
    workers: CPUs of a cluster that must be started, 0 for those this process may use; at_least: CPUs that the actors need to
    exist at all.  Raises ConnectionError if RAY_ADDRESS leads nowhere, PermissionError if the cluster wants another token.
    """
    address = os.environ.get("RAY_ADDRESS")
    with _environment({} if address else _OWN_CLUSTER), _core_filtered(), _own_sigterm() as take_sigterm_back:
        import ray
        import ray.data

        # Its notes on progress bars, block formats and tokens tell a user nothing.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        if ray.is_initialized():
            yield ray.cluster_resources()
            return
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address:
            _join(address, quiet)
        else:
            num_cpus = max(workers or available_cpus(), ceil(at_least))
            memory = _STORE_BYTES + num_cpus * _STORE_BYTES_PER_WORKER
            _start(num_cpus=num_cpus, object_store_memory=memory, include_dashboard=False, **quiet)
        take_sigterm_back()
        try:
            yield ray.cluster_resources()
        finally:
            ray.shutdown()  # only disconnects from a cluster that RAY_ADDRESS named


def _start(**options: Any) -> None:
    """Start a cluster of our own. Raises ConnectionError if Ray does not come up."""
    import ray

    for tried in range(1, _STARTS + 1):
        try:
            ray.init(address="local", **options)
            return
        # it raises a plain Exception, known by its words alone
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            log.warning("Ray did not start within half a minute, try %d of %d", tried, _STARTS)
    raise ConnectionError(
        "Ray did not start: the machine may be too busy or short of memory; --local works without Ray"
    )


def _join(address: str, options: dict[str, Any]) -> None:
    """Connect to a running cluster."""
    import ray
    from ray.exceptions import AuthenticationError

    try:
        ray.init(address=address, **options)
    except (AuthenticationError, ConnectionError) as error:
        # A head that refuses the token is reported as one that cannot be reached; only the cause tells them apart.
        if "authentication" not in f"{error} {error.__cause__}".lower():
            raise
        raise PermissionError(
            f"RAY_ADDRESS={address}: the cluster did not take this shell's token; export RAY_AUTH_MODE=token, and put the head's "
            "token into RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error


@contextmanager
def _own_sigterm() -> Iterator[Callable[[], None]]:
    """Yields what undoes Ray's way with SIGTERM, a stack of its core and exit code 15: the process then ends as any other, with 143."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.getsignal(signal.SIGTERM)

    def take_back() -> None:
        unset = before in (signal.SIG_DFL, None)
        signal.signal(signal.SIGTERM, (lambda number, frame: sys.exit(128 + number)) if unset else before)

    try:
        yield take_back
    finally:
        # None: set by a library in C, which cannot be set again
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def _core_filtered() -> Iterator[None]:
    """Pass on what Ray's core, which knows no logger, writes to file descriptor 2, but for `_NOISE`; Python's stderr is left alone."""
    terminal, python = os.dup(2), sys.stderr
    reading, writing = os.pipe()

    def forward() -> None:
        with os.fdopen(reading, "rb") as lines, os.fdopen(os.dup(terminal), "wb", 0) as out:
            for line in lines:
                if not _NOISE.search(line):
                    out.write(line)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        if python.fileno() == 2:
            sys.stderr = os.fdopen(os.dup(2), "w", 1, python.encoding, python.errors)
    except (AttributeError, OSError, ValueError):
        # not a file: a test or a notebook has put something in its place
        pass
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        sys.stderr = python
        # a process of Ray that is slow to end may hold the other end of the pipe
        thread.join(1)
        os.close(terminal)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that have no value yet, for the block."""
    fresh = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            os.environ.pop(name, None)


def keep_to_loopback() -> None:
    """Have a cluster that this process starts, and drivers in it, listen on 127.0.0.1 alone, as Ray does on other systems than Linux.

    Whoever reaches Ray's ports may run code. To be called before Ray is imported; later it changes nothing.
    """
    os.environ.update(_LOOPBACK)


def available_cpus() -> int:
    """CPUs this process may use, which a container or taskset can make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
