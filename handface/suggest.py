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
    # dashes, which all flags have, are no likeness
    bare = {one.lstrip("-"): one for one in known}
    near = get_close_matches(word.lstrip("-"), bare, n=1)
    if near:
        return f"did you mean {form.format(bare[near[0]])}?"
    return otherwise or f"there are {', '.join(known)}"
