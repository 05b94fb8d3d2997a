"""A folder of results on any fsspec URI, where a file appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import IO, TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from handface.pipeline.contract.names.addresses import filesystem_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from fsspec import AbstractFileSystem

Given = ParamSpec("Given")
Found = TypeVar("Found")
_TEMP = ".tmp-"  # leading dot: no reader's `*.tar` glob matches a file that is still being written
_STEP = 32 << 20  # bytes of a large file that are put on the disk at once
# of botocore and google.auth, which are there only where such a store is
_NO_KEY = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
_NO_RETRY = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM}


class StorageError(OSError):
    """The output cannot be written and trying again will not help; the message names the file and what to do."""


def is_refusal(error: Exception) -> bool:
    """Whether access was refused, or there is no key to ask with: another try would get the same answer."""
    return isinstance(error, PermissionError) or type(error).__name__ in _NO_KEY


@contextmanager
def naming(uri: str) -> Iterator[None]:
    """Lets a refusal of an object store, which says neither what nor where, name what was asked for."""
    try:
        yield
    except Exception as error:
        if not is_refusal(error) or "://" not in uri or uri in str(error):
            raise
        raise PermissionError(
            f"{uri}: the store refuses access ({str(error).rstrip('.')}); check the key and its rights"
        ) from error


def _named(method: Callable[Concatenate[Folder, Given], Found]) -> Callable[Concatenate[Folder, Given], Found]:
    @wraps(method)
    def call(self: Folder, *arguments: Given.args, **options: Given.kwargs) -> Found:
        with naming(self.uri):
            return method(self, *arguments, **options)

    return call


@dataclass(frozen=True)
class Folder:
    """A folder named by a path or fsspec URI (local, s3://, gs://, memory://). Small and picklable: only the URI travels."""

    uri: str

    @property
    def filesystem(self) -> AbstractFileSystem:
        """The fsspec filesystem, cached by fsspec itself. Raises AddressRefusedError for web and chained addresses."""
        return filesystem_of(self.uri)[0]

    def path(self, name: str = "") -> str:
        """The path of `name` inside the folder, as the filesystem wants it."""
        root = filesystem_of(self.uri)[1].rstrip("/")
        return f"{root}/{name}" if name else root

    @property
    def local(self) -> bool:
        """Whether rename is atomic here, as on a local or network mount; object stores publish whole objects instead."""
        from fsspec.implementations.local import LocalFileSystem

        return isinstance(self.filesystem, LocalFileSystem)

    @_named
    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return bool(self.filesystem.exists(self.path(name)))

    @_named
    def size(self, name: str) -> int | None:
        """Bytes of a file, or None if it is not there."""
        try:
            return int(self.filesystem.size(self.path(name)))
        except FileNotFoundError:
            return None

    @_named
    def read(self, name: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""
        return bytes(self.filesystem.cat_file(self.path(name)))

    @_named
    def sha256(self, name: str) -> str:
        """The checksum of a whole file in hex, read in pieces. Raises FileNotFoundError."""
        with self.filesystem.open(self.path(name), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @_named
    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """Several whole files, fetched at once where the filesystem can."""
        if self.local:
            return {name: self.read(name) for name in names}
        # Not `cat`, which takes brackets in a folder's name for a pattern.
        whole = [None] * len(names)
        found = self.filesystem.cat_ranges([self.path(name) for name in names], whole, whole, on_error="raise")
        return {name: bytes(data) for name, data in zip(names, found, strict=True)}

    @_named
    def read_range(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`."""
        return bytes(self.filesystem.cat_file(self.path(name), start=start, end=start + length))

    @_named
    def sizes(self, prefix: str = "", suffix: str = "") -> dict[str, int]:
        """{name: bytes} of the files directly in the folder, unfinished ones left out; {} if there is no folder."""
        try:
            entries = self.filesystem.ls(self.path(), detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        found = {}
        for entry in entries:
            name = entry["name"].rstrip("/").rpartition("/")[2]
            if entry["type"] == "file" and name.startswith(prefix) and name.endswith(suffix) and name[:1] != ".":
                found[name] = int(entry["size"])
        return found

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file: local by temp, fsync and rename; elsewhere as one object. Raises StorageError or OSError."""
        with self.writer(name) as stream:
            stream.write(data)

    @contextmanager
    def writer(self, name: str) -> Iterator[IO[bytes]]:
        """A stream whose content appears under `name` when the block ends without an error, and leaves nothing otherwise."""
        path = self.path(name)
        try:
            with naming(self.uri), self._local_writer(path) if self.local else self._remote_writer(path) as stream:
                yield stream
        except OSError as error:
            if error.errno not in _NO_RETRY or isinstance(error, StorageError):
                raise
            raise StorageError(
                error.errno, f"cannot write {self.uri.rstrip('/')}/{name}: {self._advice(error)}"
            ) from error

    @_named
    def remove(self, name: str) -> None:
        """Remove a file that may be gone already."""
        with suppress(FileNotFoundError):
            self.filesystem.rm_file(self.path(name))

    def clean(self, prefix: str) -> None:
        """Remove what a killed process left of the files whose names start with `prefix`; finished files stay."""
        if self.local:
            target = Path(self.path(prefix))
            for leftover in target.parent.glob(f"{_TEMP}{target.name}*"):
                leftover.unlink(missing_ok=True)

    @contextmanager
    def _local_writer(self, path: str) -> Iterator[IO[bytes]]:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temp = tempfile.mkstemp(prefix=f"{_TEMP}{target.name}.", dir=target.parent)
        try:
            with io.BufferedWriter(_SteadyFile(handle, "wb")) as stream:
                yield stream
                stream.flush()
                os.fchmod(stream.fileno(), 0o666 & ~_umask())
                os.fsync(stream.fileno())
            Path(temp).replace(target)
            _fsync_folder(target.parent)
        finally:
            Path(temp).unlink(missing_ok=True)

    @contextmanager
    def _remote_writer(self, path: str) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryDirectory(prefix="handface-") as folder:
            local = Path(folder) / "upload"
            with local.open("wb") as stream:
                yield stream
            self.filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.filesystem.put_file(str(local), path)  # an object appears when its upload is complete

    def _advice(self, error: OSError) -> str:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = f" ({shutil.disk_usage(self.path()).free >> 20} MB free)" if self.local else ""
            return f"{reason}{free}. Free some space and run the same command again"
        if error.errno == errno.EFBIG:
            return f"{reason}. Raise the limit (`ulimit -f`) and run the same command again"
        if error.errno == errno.EIO:
            return f"{reason}. Check the disk, then run the same command again"
        return f"{reason}. Make the folder writable and run the same command again"


class _SteadyFile(io.FileIO):
    """Puts a large file on the disk step by step while more is written, and gives the memory of each step back.

    Otherwise the file waits for the disk at its end only, and takes fresh memory all along, which costs more than the copying.
    """

    _start = _end = 0
    _pool: ThreadPoolExecutor | None = None
    _settled: Future[None] | None = None

    def write(self, data: ReadableBuffer) -> int:
        """Raises OSError also for what could not be put on the disk since."""
        count = super().write(data)
        self._end += count
        if self._end - self._start >= _STEP and hasattr(os, "posix_fadvise"):
            if self._settled is not None:
                self._settled.result()
            self._pool = self._pool or ThreadPoolExecutor(1)
            self._settled = self._pool.submit(_settle, self.fileno(), self._start, self._end - self._start)
            self._start = self._end
        return count

    def close(self) -> None:
        """Raises as `write`: the disk reports a failure once, to whoever asked first."""
        if self._pool is not None:
            self._pool.shutdown()  # nothing may use the descriptor afterwards
        super().close()
        if self._settled is not None:
            self._settled.result()


def _settle(descriptor: int, start: int, length: int) -> None:
    os.fdatasync(descriptor)
    os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def write_file(uri: str, data: bytes) -> None:
    """Write one file by path or fsspec URI so that it appears whole or not at all. Raises StorageError or OSError."""
    folder, _, name = absolute(uri).rpartition("/")
    Folder(folder or "/").write(name, data)


def absolute(uri: str) -> str:
    """Local paths made absolute, so that workers with another working directory find the same folder; URIs as they are."""
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def _umask() -> int:
    """The process's umask; Linux shows it without the set-and-restore that would race between threads."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0o022
    return next((int(line.split()[1], 8) for line in status.splitlines() if line.startswith("Umask:")), 0o022)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
