"""One writer per output folder: `with lock_folder(folder, "takedown"):` keeps every other command out.

Whoever gets the lock first removes what a killed command left unfinished there.

A local folder is locked by the kernel (flock), which frees the lock when its process ends however that happens. Object stores,
and mounts without locks, get a small object that its holder renews; one that nobody renewed for a while is taken over.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from handface.pipeline.contract.storage import Folder, naming

log = logging.getLogger(__name__)

LOCK_NAME = ".handface.lock"
RENEW_S = 20.0
# without a renewal for this long, the holder of an object is taken to be dead
STALE_S = 180.0
_POLL_S = 0.5
_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
# descriptors of held locks: a forked child must not keep its parent's
_held: set[int] = set()


class LockedError(RuntimeError):
    """Another command writes to the folder; the message names it and says what to do."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. command: what it does.  start: of the lock, ISO 8601.  renewed: seconds since 1970, by the holder's clock."""

    command: str
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    start: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    renewed: float = field(default_factory=time.time)

    def dumps(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def loads(cls, blob: bytes) -> Owner | None:
        """The inverse; None for what is no lock's text, as an unfinished one."""
        try:
            return cls(**json.loads(blob))
        except (ValueError, TypeError):
            return None


@contextmanager
def lock_folder(folder: Folder, command: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the folder's lock for the length of a block; the folder is made if it is not there.

    Args:
        folder: what is written to; local, or anything fsspec can write.
        command: the verb, for the message another command gets.
        wait_s: seconds to wait for another command before giving up.

    Raises:
        LockedError: another command still holds it.
    """
    owner = Owner(command)
    made = _make(Path(folder.path())) if folder.local else []
    deadline = time.monotonic() + wait_s
    told = False
    while (held := _try_lock(folder, owner)) is None:
        other = _read_owner(folder)
        if time.monotonic() >= deadline:
            raise LockedError(_message(folder, other))
        if not told:
            log.info("%s; waiting up to %.0f s", _message(folder, other), wait_s)
            told = True
        time.sleep(_POLL_S)
    try:
        with held:
            _remove_leftovers(folder)
            yield
    finally:
        # a command that could not do its work leaves no empty folders
        with suppress(OSError):
            for path in made:
                path.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns those that were not there, innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_leftovers(folder: Folder) -> None:
    """Remove what killed commands left unfinished in a local folder: whoever holds the lock is the only one that writes there."""
    if folder.local:
        for path in Path(folder.path()).glob(".tmp-*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _message(folder: Folder, other: Owner | None) -> str:
    who = f"`{other.command}` (process {other.pid} on {other.host}, since {other.start})" if other else "a command"
    return f"{folder.uri}: {who} is writing there; wait for it, or stop it and run the same command again"


def _read_owner(folder: Folder) -> Owner | None:
    with suppress(OSError):
        return Owner.loads(folder.read(LOCK_NAME))
    return None


def _try_lock(folder: Folder, owner: Owner) -> _FileLock | _ObjectLock | None:
    """The lock, taken, or None if somebody else has it."""
    if folder.local:
        try:
            return _FileLock.take(Path(folder.path(LOCK_NAME)), owner)
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
    return _ObjectLock.take(folder, owner)


class _FileLock:
    """A lock file under flock. The file is removed at the end, so that it is never published with the folder."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    @classmethod
    def take(cls, path: Path, owner: Owner) -> _FileLock | None:
        import fcntl

        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                # the holder before us had made the folder, wrote nothing and removed it
                path.parent.mkdir(parents=True, exist_ok=True)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(path, descriptor):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, owner.dumps(), 0)
                    _held.add(descriptor)
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except OSError:
                os.close(descriptor)
                raise
            # the holder before us removed the file after we had opened it: open the new one
            os.close(descriptor)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        _held.discard(self.descriptor)
        os.close(self.descriptor)


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _forget_in_child() -> None:
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


class _ObjectLock:
    """A small object made only if there is none, and renewed by a thread while the block runs."""

    def __init__(self, folder: Folder, owner: Owner) -> None:
        self.folder, self.owner = folder, owner
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    @classmethod
    def take(cls, folder: Folder, owner: Owner) -> _ObjectLock | None:
        other = _read_owner(folder)
        if other is not None:
            if not _stale(other):
                return None
            log.warning("%s: taking over the lock of `%s`, which has ended", folder.uri, other.command)
            folder.remove(LOCK_NAME)
        try:
            with naming(folder.uri), folder.filesystem.open(folder.path(LOCK_NAME), "xb") as stream:
                stream.write(owner.dumps())
        except FileExistsError:
            return None
        # two that took over a dead holder's lock at once: the later object stands, and both look again
        written = _read_owner(folder)
        return cls(folder, owner) if written is not None and written.token == owner.token else None

    def _renew(self) -> None:
        while not self._end.wait(RENEW_S):
            try:
                other = _read_owner(self.folder)
                if other is not None and other.token != self.owner.token:
                    log.error("%s: `%s` has taken over the lock; stop one of the two", self.folder.uri, other.command)
                    return
                self.folder.filesystem.pipe_file(
                    self.folder.path(LOCK_NAME), replace(self.owner, renewed=time.time()).dumps()
                )
            except Exception as error:  # stores raise many kinds, and what is not renewed is soon another's
                log.warning("%s: the lock could not be renewed (%s)", self.folder.uri, error)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        current = _read_owner(self.folder)
        if current is not None and current.token == self.owner.token:
            self.folder.remove(LOCK_NAME)


def _stale(other: Owner) -> bool:
    """Whether a lock's holder is dead: its process here is gone, or nobody renewed the lock for long."""
    if other.host == socket.gethostname() and not Path(f"/proc/{other.pid}").exists() and Path("/proc").is_dir():
        return True
    return time.time() - other.renewed > STALE_S
