"""Check shards sample by sample: `validate` walks tars, names the file and key of what is wrong, and never trusts a byte.

Reads the tar headers itself instead of through a loader, since a loader hides exactly what must be seen here: links,
absolute names, duplicates, a missing end.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from pipeline.sample import KEY_LENGTH
from pipeline.sample_checks import EXTENSIONS, check_sample

MAX_MEMBER_BYTES = 64 << 20  # a 512 px sample has none above 1 MB; guards memory against a lying header
_BLOCK = tarfile.BLOCKSIZE
_PICKLES = {"pyd", "pkl", "pickle", "pth", "pt"}  # by the last part of the name
_HAMER = {"data.pyd", "detection.npz"}


@dataclass(frozen=True)
class Finding:
    """One thing wrong. `key` is the sample's (or the member's name where there is no sample), `member` its extension."""

    file: str
    key: str
    member: str
    code: str
    message: str


@dataclass
class FileResult:
    """What one shard holds. `findings` is bounded, `counts` is not."""

    file: str
    samples: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"counts": dict(sorted(self.counts.items()))}


@dataclass(frozen=True)
class Member:
    """One tar member after the checks of its header; `data` is None if it was refused."""

    name: str
    key: str
    extension: str
    data: bytes | None


def validate(
    uris: Iterable[str], *, max_findings: int = 20, progress: Callable[[int], None] = lambda _: None
) -> Iterator[FileResult]:
    """Check shards one after the other, yielding a result each; a key may appear once over all of them.

    uris: paths or fsspec URIs of tars.  max_findings: kept per file (all are counted).  progress: gets bytes read.
    Raises OSError if a file cannot be opened; whatever is inside a file is a finding.
    """
    import fsspec

    seen: dict[str, str] = {}  # key -> file
    for uri in uris:
        checker = _FileChecker(uri, seen, max_findings)
        with fsspec.open(uri, "rb") as stream:
            checker.run(stream, progress)
        _check_part(uri, checker)
        yield checker.result


def find_shards(arguments: Iterable[str]) -> list[str]:
    """Files as given; folders and globs become the tars in them, sorted. Raises FileNotFoundError for what names nothing."""
    import fsspec

    found: list[str] = []
    for argument in arguments:
        filesystem, path = fsspec.core.url_to_fs(argument)
        if filesystem.isfile(path):
            found.append(argument)
            continue
        pattern = f"{path.rstrip('/')}/**/*.tar" if filesystem.isdir(path) else path
        matches = sorted(filesystem.glob(pattern))
        if not matches:
            raise FileNotFoundError(f"{argument}: no shard there (expected a .tar file, a folder of them, or a glob)")
        remote = "://" in argument
        found += [filesystem.unstrip_protocol(match) if remote else match for match in matches]
    return found


class _FileChecker:
    """Walks one tar; groups neighbouring members into samples as webdataset does."""

    def __init__(self, uri: str, seen: dict[str, str], max_findings: int) -> None:
        self.result = FileResult(uri)
        self.keys: list[str] = []
        self.sha256 = ""
        self._seen = seen
        self._max_findings = max_findings

    def add(self, code: str, message: str, key: str = "", member: str = "") -> None:
        """Count a finding, and keep it while there is room."""
        self.result.counts[code] += 1
        if len(self.result.findings) < self._max_findings:
            self.result.findings.append(Finding(self.result.file, key, member, code, message))

    def run(self, raw: IO[bytes], progress: Callable[[int], None]) -> None:
        """Read the whole tar. Problems become findings."""
        stream = _Tee(raw, progress)
        key, members = "", dict[str, bytes | None]()
        for member in self._members(stream):
            if member.key != key:
                self._end_sample(key, members)
                key, members = member.key, {}
            if member.extension in members:
                self.add("duplicate_key", "the member is there twice", key, member.extension)
            members[member.extension] = member.data
        self._end_sample(key, members)
        while stream.read(1 << 20):  # to the end, for the checksum
            pass
        self.result.bytes, self.sha256 = stream.count, stream.sha256.hexdigest()

    def _members(self, stream: _Tee) -> Iterator[Member]:
        head = stream.read(_BLOCK)
        if problem := _not_a_tar(head):
            self.add("bad_tar", problem)
            return
        end = 0  # of the last member, with its padding
        try:
            source: Any = _Prefixed(head, stream)  # `r|` only ever reads
            with tarfile.open(fileobj=source, mode="r|") as tar:
                for info in tar:
                    yield self._member(tar, info)
                    end = info.offset_data + -(-info.size // _BLOCK) * _BLOCK
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            self.add("bad_tar", f"damaged or cut off at byte {stream.count} ({error})")
            return
        while stream.read(1 << 20):
            pass
        if stream.last_used > end:  # tarfile stops quietly at a header it cannot read
            self.add("bad_tar", f"unreadable from byte {end} on: neither a member nor the end of the tar")
        elif stream.count < end + 2 * _BLOCK:
            self.add("bad_tar", f"ends at byte {stream.count} without the two zero blocks that close a tar: cut off?")

    def _member(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
        name = info.name
        folder, _, base = name.rpartition("/")
        key, _, extension = base.partition(".")
        if folder:
            key = f"{folder}/{key}"
        if problem := _unsafe(info):
            self.add("unsafe_member", problem, name)
        elif (last := extension.rpartition(".")[2].lower()) in _PICKLES or extension in _HAMER:
            self.add("pickle", _pickle_hint(extension, last), key, extension)
        elif extension not in EXTENSIONS:
            known = ", ".join(f".{e}" for e in EXTENSIONS)
            self.add("unknown_member", f"member {name!r} is none of {known}", key, extension)
        elif not 0 <= info.size <= MAX_MEMBER_BYTES:
            self.add("unsafe_member", f"{info.size} bytes; no member may exceed {MAX_MEMBER_BYTES}", key, extension)
        else:
            data = tar.extractfile(info)
            return Member(name, key, extension, data.read() if data is not None else b"")
        return Member(name, key, extension, None)

    def _end_sample(self, key: str, members: dict[str, bytes | None]) -> None:
        if not any(extension in EXTENSIONS for extension in members):
            return
        self.result.samples += 1
        self.keys.append(key)
        if key in self._seen:
            where = "earlier in this file" if self._seen[key] == self.result.file else f"in {self._seen[key]}"
            self.add("duplicate_key", f"the key is already {where}", key)
        self._seen.setdefault(key, self.result.file)
        if not re.fullmatch(f"[0-9a-f]{{{KEY_LENGTH}}}", key):
            self.add("bad_key", f"a key is {KEY_LENGTH} lower-case hex digits without a folder", key)
        readable = {extension: data for extension, data in members.items() if data is not None}
        for problem in check_sample(key, readable):
            self.add(problem.code, problem.message, key, problem.member)


def _not_a_tar(head: bytes) -> str | None:
    if not head:
        return "the file is empty (0 bytes)"
    if head[:2] == b"\x1f\x8b" or head[:4] == b"\x28\xb5\x2f\xfd":
        return "compressed; shards are plain tar, so that a sample can be found by its offset: decompress it"
    if len(head) == _BLOCK and not head.strip(b"\0"):
        return None  # an empty but whole tar
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        return f"not a tar file ({error})"
    return None


def _unsafe(info: tarfile.TarInfo) -> str | None:
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.sparse is not None:
        kinds = {
            tarfile.SYMTYPE: "symbolic link",
            tarfile.LNKTYPE: "hard link",
            tarfile.DIRTYPE: "folder",
            tarfile.CHRTYPE: "device",
            tarfile.BLKTYPE: "device",
            tarfile.FIFOTYPE: "pipe",
        }
        return f"a {kinds.get(info.type, f'member of type {info.type!r}')}; a shard holds plain files only"
    if info.name.startswith("/") or re.match(r"[A-Za-z]:", info.name) or "\\" in info.name:
        return "an absolute or foreign path"
    if ".." in info.name.split("/"):
        return "the name climbs out of its folder with .."
    if not info.name.isprintable():
        return "the name has control characters"
    return None


def _pickle_hint(extension: str, last: str) -> str:
    if extension in _HAMER:
        return (
            f".{extension} is a HaMeR-style pickled label; loading it can run code, so it is refused. Convert the shard on "
            "its own: docs/sample_format.md, 'From HaMeR-style shards'"
        )
    return f".{last} can run code when loaded and is refused; numbers go to .safetensors, everything else to .json"


def _check_part(uri: str, checker: _FileChecker) -> None:
    """Compare with the `part-<id>.json` beside the tar, if there is one."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(uri)
    manifest_path = path.removesuffix(".tar") + ".json"
    if not path.endswith(".tar") or not filesystem.isfile(manifest_path):
        return
    try:
        manifest = json.loads(filesystem.cat_file(manifest_path))
    except ValueError as error:
        checker.add("part_mismatch", f"{manifest_path} is not JSON ({error})")
        return
    del manifest


class _Tee:
    """A read-only stream that hashes, counts and reports what passes."""

    def __init__(self, stream: IO[bytes], progress: Callable[[int], None]) -> None:
        self._stream, self._progress = stream, progress
        self.sha256 = hashlib.sha256()
        self.count = 0
        self.last_used = 0  # where the last byte that is not zero ends

    def read(self, size: int) -> bytes:
        """Read and account."""
        data = self._stream.read(size)
        self.sha256.update(data)
        if used := len(data.rstrip(b"\0")):
            self.last_used = self.count + used
        self.count += len(data)
        self._progress(len(data))
        return data


class _Prefixed:
    """A stream whose first bytes were already taken off."""

    def __init__(self, head: bytes, stream: _Tee) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int) -> bytes:
        """The head first, then the rest."""
        if not self._head:
            return self._stream.read(size)
        data, self._head = self._head[:size], self._head[size:]
        return data + self._stream.read(size - len(data)) if len(data) < size else data
