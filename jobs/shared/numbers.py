"""Numbers that a verb cannot mean: below 0 where nothing else is said, outside what a field's type says, or no number at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from annotated_types import Interval, MultipleOf

_LEAST = Interval(ge=0)
_Mark = TypeVar("_Mark", Interval, MultipleOf)


def check_numbers(config: Any, flags: bool = True) -> None:
    """Look at every number of a configuration, also of the groups inside.

    Args:
        config: An instance of a verb's dataclass, or of one that such a verb makes.
        flags: Whether its fields are flags; they are named so, otherwise as in a configuration file.

    Raises:
        ValueError: A number is outside its bounds, with the flag and the bounds. Without bounds in the field's type they are 0 and up.
    """
    for flag, value, hint in _numbers(config, "--" if flags else "", "-" if flags else "_"):
        bounds = _mark(hint, Interval) or _LEAST
        step = getattr(_mark(hint, MultipleOf), "multiple_of", None)
        # the first also for what is no number
        if not (_low(bounds) <= value <= _high(bounds)) or (step and value % step):
            raise ValueError(f"{flag} {value}: {_describe(bounds, step, isinstance(value, int))} is expected")


def _numbers(config: Any, prefix: str, between: str) -> Iterator[tuple[str, int | float, Any]]:
    """Flag, value and type of each number. between: joins the words of a name."""
    import tyro

    hints = get_type_hints(type(config), include_extras=True)
    for one in fields(config):
        value, hint = getattr(config, one.name), hints[one.name]
        flag = f"{prefix}{one.name.replace('_', between)}"
        if is_dataclass(value):
            inside = prefix if tyro.conf.OmitArgPrefixes in get_args(hint) else f"{flag}."
            yield from _numbers(value, inside, between)
        elif isinstance(value, Mapping):
            yield from ((f"{flag}.{key}", held, hint) for key, held in value.items() if _is_number(held))
        else:
            for at, each in enumerate(value if isinstance(value, tuple) else (value,)):
                if is_dataclass(each):
                    yield from _numbers(each, f"{flag}[{at}].", between)
                elif _is_number(each):
                    yield flag, each, hint


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mark(hint: Any, kind: type[_Mark]) -> _Mark | None:
    """What the type, or one of its choices, says of its numbers."""
    marks = [mark for choice in (hint, *get_args(hint)) for mark in getattr(choice, "__metadata__", ())]
    return next((mark for mark in marks if isinstance(mark, kind)), None)


def _low(bounds: Interval) -> Any:
    return -math.inf if bounds.ge is None else bounds.ge


def _high(bounds: Interval) -> Any:
    return math.inf if bounds.le is None else bounds.le


def _describe(bounds: Interval, step: int | None, whole: bool) -> str:
    kind = f"a multiple of {step}" if step else "a whole number" if whole else "a number"
    if bounds.le is not None:
        return f"{kind} from {bounds.ge} to {bounds.le}"
    return kind if _low(bounds) == -math.inf else f"{kind} of at least {bounds.ge}"
