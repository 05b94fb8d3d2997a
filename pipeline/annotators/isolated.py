"""Runs a detector in a child process that can be killed: MediaPipe is known to hang and to leak after many images.

A call that does not answer in time is ended with its process and tried once more in a fresh one; after a number of calls
the child is replaced, which returns whatever it leaked. Results do not depend on any of this.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any


class DetectorHung(RuntimeError):
    """Two processes in a row did not answer in time, or died."""


class DetectorError(RuntimeError):
    """The detector raised; the message is the child's."""


@dataclass(frozen=True)
class IsolationConfig:
    """When a detector process is given up."""

    timeout: float = 60.0
    """Seconds a call may take before its process is killed."""
    recycle_after: int = 2000
    """Calls after which the process is replaced."""
    start_timeout: float = 120.0
    """Seconds a fresh process may take to load its models."""


class Isolated:
    """Holds `factory()` in a child process; `call(method, *args)` runs a method of it there.

    `factory` must be picklable (a class or a functools.partial). One caller at a time.
    """

    def __init__(self, factory: Callable[[], Any], config: IsolationConfig = IsolationConfig()) -> None:
        self.factory, self.config = factory, config
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._calls = 0
        self.restarts = 0

    def call(self, method: str, *args: Any) -> Any:
        """The method's result. Raises DetectorHung after two silent or dead processes, DetectorError if it raised."""
        if self._calls >= self.config.recycle_after:
            self.close()
        for _ in range(2):
            pipe = self._ensure_started()
            try:
                pipe.send((method, args))
                if pipe.poll(self.config.timeout):
                    ok, result = pipe.recv()
                    self._calls += 1
                    if ok:
                        return result
                    raise DetectorError(result)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                pass
            self.close()
            self.restarts += 1
        raise DetectorHung(f"{method} gave no answer within {self.config.timeout:g} s, twice")

    def close(self) -> None:
        """End the child at once. The next call starts a new one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process, self._pipe, self._calls = None, None, 0

    def __del__(self) -> None:
        self.close()

    def _ensure_started(self) -> Connection:
        if self._pipe is not None:
            return self._pipe
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.factory, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        try:
            if not ours.poll(self.config.start_timeout):
                raise DetectorHung(f"the detector process did not start within {self.config.start_timeout:g} s")
            ok, message = ours.recv()
        except EOFError:
            ok, message = False, "the detector process died while loading its models"
        except DetectorHung:
            self.close()
            raise
        if not ok:
            self.close()
            raise DetectorError(message)
        return ours


def _serve(pipe: Connection, factory: Callable[[], Any], parent: int) -> None:
    """The child's loop: build the detector, answer calls until the parent goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _die_with(parent)
    try:
        target = factory()
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))
        return
    pipe.send((True, ""))
    while True:
        try:
            method, args = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer = (True, getattr(target, method)(*args))
        except Exception as error:
            answer = (False, f"{type(error).__name__}: {error}")
        pipe.send(answer)


def _die_with(parent: int) -> None:
    """On Linux, let the kernel end this process when its parent is killed; elsewhere the closed pipe does it."""
    import ctypes
    import sys

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(0)
