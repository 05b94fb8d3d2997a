"""`--output` is looked at before a verb starts: work of hours must not end at a path that cannot be written to."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints


@dataclass(frozen=True)
class OneFile:
    """Marks an `output` that is one file; the others are folders: `output: Annotated[Path, OneFile()]`."""


def check_output(config: Any) -> None:
    """Look whether the verb's output can be written there; nothing stays of it.

    Args:
        config: A verb's configuration; without a local `output` there is nothing to check.

    Raises:
        OSError: A file is where a folder is needed, a folder where a file is, or there is no right to write.
    """
    given = getattr(config, "output", None)
    if given is None or "://" in str(given):
        return
    # nothing is written with these
    if getattr(config, "check", False) or getattr(config, "dry_run", False):
        return
    hint = get_type_hints(type(config), include_extras=True)["output"]
    one_file = any(isinstance(mark, OneFile) for mark in getattr(hint, "__metadata__", ()))
    path = Path(given).expanduser().absolute()
    if one_file and path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(given))
    folder = path.parent if one_file else path
    nearest = next(one for one in (folder, *folder.parents) if one.exists())
    if not nearest.is_dir():
        number = errno.EEXIST if nearest == path else errno.ENOTDIR
        raise OSError(number, os.strerror(number), str(given))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))
    _try_to_write(nearest, str(given))


def _try_to_write(folder: Path, given: str) -> None:
    """Make a folder there and remove it: rights alone do not tell of a file system that takes none, as /proc, or that is full."""
    try:
        Path(tempfile.mkdtemp(prefix=".handface-", dir=folder)).rmdir()
    except FileNotFoundError as error:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), given) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, given) from error
