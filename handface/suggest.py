"""What to say of a word that nobody knows: the nearest known one, or all of them."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


def suggest(word: str, known: Collection[str], form: str = "{}", otherwise: str = "") -> str:
    """As `did you mean X?`, or `there are X, Y`.

    Args:
        word: What was given.
        known: What could have been meant.
        form: How the suggestion is written, with {} for the word: `handface {}`.
        otherwise: What to say in place of all of them where none is near.
    """
    if near := nearest(word, known):
        return f"did you mean {form.format(near)}?"
    return otherwise or f"there are {', '.join(known)}"


def nearest(word: str, known: Collection[str], likeness: float = 0.6) -> str:
    """The known word that is most like the one that was given, or "" where none is as like as that (0 to 1)."""
    # dashes, which all flags have, are no likeness
    bare = {one.lstrip("-"): one for one in known}
    found = get_close_matches(word.lstrip("-"), bare, n=1, cutoff=likeness)
    return bare[found[0]] if found else ""
