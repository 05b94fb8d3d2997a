"""A quick walk along plain tar headers, ten times as fast as tarfile's; whatever is unusual is left to a careful reader."""

from __future__ import annotations

import re
from collections.abc import Sequence
from mmap import mmap

from handface.pipeline.contract.tar_index import BLOCK, HAMER_MEMBERS, split_name

_REFUSED = tuple(member.encode() for member in HAMER_MEMBERS)
_NAME = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_.+=@,-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+=@,-]*)*")
_PLAIN = (b"0", b"\0")
_MOST_ZEROS = 1 << 16  # bytes that close a plain tar


def walk_headers(tar: bytes | mmap, ended: bool = True) -> list[tuple[str, int, int, int]] | None:
    """(name, start of its header, start of its data, bytes) of every member.

    Args:
        tar: A whole tar, or a piece that holds whole members.
        ended: Whether zeros that close a tar must follow.

    Returns:
        None if there is anything but plain files with short plain names, right checksums and whole data.
    """
    members: list[tuple[str, int, int, int]] = []
    at, length = 0, len(tar)
    while at < length:
        block = tar[at : at + BLOCK]
        if not block.strip(b"\0"):
            # Data behind the end, as in two joined tars, is for the careful reader to name.
            return members if ended and length - at <= _MOST_ZEROS and not tar[at:].strip(b"\0") else None
        name, _, _ = block[:100].partition(b"\0")
        checksum, size = _octal(block[148:156]), _octal(block[124:136])
        if (
            len(block) != BLOCK
            or checksum is None
            or size is None
            or block[156:157] not in _PLAIN
            or block[345:346] != b"\0"
            or _NAME.fullmatch(name) is None
            or name.endswith(_REFUSED)
            or sum(block) - sum(block[148:156]) + 8 * 32 != checksum
            or at + BLOCK + size > length
        ):
            return None
        members.append((name.decode(), at, at + BLOCK, size))
        at += BLOCK + -(-size // BLOCK) * BLOCK
    return None if ended else members


def split_sample(blob: bytes, wanted: Sequence[str]) -> tuple[str, dict[str, bytes]] | None:
    """Key and {extension: bytes} of the one sample in a piece of a tar; None if it is not one plain sample."""
    members = walk_headers(blob, ended=False)
    if not members:
        return None
    found, keys = {}, set()
    for name, _, data, size in members:
        key, extension = split_name(name)
        keys.add(key)
        if extension in wanted:
            found[extension] = blob[data : data + size]
    return (keys.pop(), found) if len(keys) == 1 else None


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and all(48 <= digit < 56 for digit in digits) else None
