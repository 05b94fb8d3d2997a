"""Errors -> one sentence for the person at the terminal; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import errno
import re

_OURS = ("handface",)
# Their errors say what a server, a hub or a bucket answered. They are known by name, so that nothing is imported to ask.
_REMOTE = {
    *("aiobotocore", "aiohttp", "azure", "boto3", "botocore", "fsspec", "gcsfs", "google", "httpcore", "httpx"),
    *("huggingface_hub", "requests", "s3fs", "urllib3"),
}
_NUMBER = re.compile(r"\[Errno -?\d+\] ")
_NO_RIGHTS = "no permission; change its rights, or choose another path"
_NO_SPACE = "the disk is full; free some space and run the same command again"
# What the system says about a path, and what to do.
_PATHS = {
    errno.ENOENT: "no such file or folder",
    errno.EEXIST: "a file is there already, and a folder is needed; choose another path",
    errno.ENOTDIR: "a part of this path is a file, where a folder is needed; choose another path",
    errno.EISDIR: "is a folder, and a file is needed; add a file name",
    errno.EACCES: _NO_RIGHTS,
    errno.EPERM: _NO_RIGHTS,
    errno.EROFS: "this file system cannot be written to; choose another path",
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "its links lead round in a circle; choose another path",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n 4096`)",
}


def is_expected(error: Exception) -> bool:
    """Whether the message is for people: bad values, files, missing packages, servers, our own types; not bugs."""
    return isinstance(error, ValueError | OSError | ImportError) or bool(
        _packages(error).intersection((*_OURS, *_REMOTE))
    )


def describe_error(error: Exception) -> str:
    """One line: which path or server, what is wrong with it, and what to do."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.filename is not None and not _packages(error) & _REMOTE:
        problem = _PATHS.get(error.errno or 0) or (error.strerror or name).rstrip(".").lower()
        return f"{_text(error.filename)}: {problem}"
    text = " ".join(_NUMBER.sub("", str(error)).split())
    return f"{name}: {text}" if text and _packages(error) & _REMOTE else text or name


def _text(path: object) -> str:
    return path.decode(errors="replace") if isinstance(path, bytes) else str(path)


def _packages(error: Exception) -> set[str]:
    """Top packages of the error's type and of those it comes from."""
    return {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
