"""Bytes that should be text, as people's editors and servers write it: with or without a byte order mark, UTF-8 or UTF-16."""

from __future__ import annotations

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class UnreadableTextError(ValueError):
    """Bytes that are no text."""


def text_encoding(start: bytes) -> str:
    """The encoding of a text by its byte order mark or, without one, by where its zero bytes are; UTF-8 if unsure."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    if start[1:2] == b"\0" != start[:1]:
        return "utf-16-le"
    if start[:1] == b"\0" and start[1:2] not in (b"\0", b""):
        return "utf-16-be"
    return "utf-8"


def is_other_file(body: bytes) -> bool:
    """Whether a site answered with something else than the text that was asked for: its start page, a picture, or nothing.

    Servers that answer every address with the same file do; it says nothing about the text that was asked for.
    """
    from handface.pipeline.contract.images.picture import sniff

    start = body[:64].decode(text_encoding(body), "replace").lstrip("\ufeff \t\r\n")
    return not body.strip() or start[:1] == "<" or sniff(body) is not None


def decode_text(body: bytes) -> str:
    """Text without its byte order mark; single broken characters are replaced.

    Raises:
        UnreadableTextError: It holds zero characters, so it is no text in any of the encodings.
    """
    text = body.decode(text_encoding(body), "replace").removeprefix("\ufeff")
    if "\0" in text:
        raise UnreadableTextError("not a text (zero bytes in it)")
    return text
