"""The flags of a config dataclass, as tyro names them, and the same dataclass as `--help` should show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


def dataclass_of(hint: Any) -> type | None:
    """The dataclass that a field holds, without the marks round it."""
    bare = getattr(hint, "__origin__", hint) if hasattr(hint, "__metadata__") else hint
    return bare if isinstance(bare, type) and is_dataclass(bare) else None


def list_flags(kind: type, prefix: str = "--", bare: bool = False) -> Iterator[tuple[str, Any]]:
    """Every flag with the type of its value, also of the groups inside; switches that are on by default as `--no-NAME`.

    bare: Groups inside give their flags no prefix, as tyro's OmitArgPrefixes asks for.
    """
    import tyro

    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        hint, name = hints[one.name], one.name.replace("_", "-")
        nested = dataclass_of(hint)
        keys = one.default_factory() if get_origin(hint) is Mapping and one.default_factory is not MISSING else ()
        if keys:  # a flag for each
            yield from ((f"{prefix}{name}.{key}", get_args(hint)[1]) for key in keys)
        elif nested is None:
            yield f"{prefix}{'no-' if one.default is True else ''}{name}", hint
            for mark in getattr(hint, "__metadata__", ()):
                yield from ((alias, hint) for alias in getattr(mark, "aliases", None) or ())
        else:
            inside = bare or tyro.conf.OmitArgPrefixes in get_args(hint)
            yield from list_flags(nested, prefix if inside else f"{prefix}{name}.", inside)


def takes_many(hint: Any) -> bool:
    """Whether a flag takes any number of values."""
    bare = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    return get_origin(bare) is tuple and get_args(bare)[-1] is Ellipsis


def kinds_of(hint: Any) -> tuple[Any, ...]:
    """The types of which a flag's value has one, without the marks round them."""
    bare = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    kinds = get_args(bare) if get_origin(bare) in (Union, UnionType) else (bare,)
    return tuple(kind.__origin__ if hasattr(kind, "__metadata__") else kind for kind in kinds)


def is_switch(hint: Any) -> bool:
    """Whether a flag stands alone."""
    return kinds_of(hint) == (bool,)


def is_positional(hint: Any) -> bool:
    """Whether the value stands without a flag."""
    import tyro

    return tyro.conf.Positional in getattr(hint, "__metadata__", ())


def choices_of(hint: Any) -> tuple[str, ...]:
    """The words that a flag takes one of; none if it takes others, or no word at all."""
    kinds = kinds_of(hint)
    if not all(kind is NoneType or get_origin(kind) is Literal for kind in kinds):
        return ()
    return tuple("None" if kind is NoneType else str(word) for kind in kinds for word in get_args(kind) or ("",))


def dress_for_help(kind: type, whole: bool) -> tuple[type, list[str]]:
    """A copy of the dataclass for help alone.

    Args:
        kind: The dataclass.
        whole: Show the groups inside; otherwise they are left out.

    Returns:
        The copy, in which no switch `--no-NAME` claims `(default: True)`, and the names of the groups that were left out.
    """
    import tyro

    hints, hidden = get_type_hints(kind, include_extras=True), []
    names: dict[str, Any] = {"__annotations__": {}, "__module__": kind.__module__, "__doc__": kind.__doc__}
    for one in fields(kind):
        hint, default = hints[one.name], one.default
        if default is MISSING and one.default_factory is not MISSING:
            default = one.default_factory()
        nested = dataclass_of(hint)
        if nested is None and default is not True:
            continue
        if nested is None:
            # the flag is --no-NAME, of which that would be wrong
            hint = Annotated[hint, tyro.conf.arg(help_behavior_hint="")]
        elif whole:
            copy, _ = dress_for_help(nested, whole)
            default = _convert(default, copy)
            hint = Annotated[(copy, *getattr(hint, "__metadata__", ("",)))]
        else:
            hidden.append(one.name)
            hint = Annotated[hint, tyro.conf.Suppress]
        names["__annotations__"][one.name] = hint
        names[one.name] = field(default_factory=partial(_itself, default))
    return dataclass(frozen=True, kw_only=True)(type(kind.__name__, (kind,), names)), hidden


def _itself(value: Any) -> Any:
    return value


def _convert(value: Any, copy: type) -> Any:
    """A config with its values in another dataclass of the same fields, also inside."""
    hints = get_type_hints(copy)
    values = {one.name: getattr(value, one.name) for one in fields(copy) if one.init}
    return copy(
        **{
            name: found if (inner := dataclass_of(hints[name])) is None else _convert(found, inner)
            for name, found in values.items()
        }
    )
