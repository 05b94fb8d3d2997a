"""Configuration files of every verb: read as mappings, and a key that no dataclass has is an error that names the nearest one."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from handface.suggest import suggest

Kind = TypeVar("Kind")


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a JSON file (`.json`) or a YAML file (any other). Raises ValueError naming the file, OSError if it cannot be read."""
    # YAML would read JSON, too, but takes its 1e-3 for text
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
        if kind == "JSON":
            found = json.loads(text)
        else:
            import yaml

            found = yaml.safe_load(text)
    except OSError:
        raise
    except Exception as error:  # yaml's errors are no ValueErrors
        raise ValueError(f"{path}: not {kind} ({' '.join(str(error).split())})") from error
    if found is None:  # an empty YAML file
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds a {type(found).__name__}; a configuration is a mapping of names to values")
    return found


def without_empty(values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Nested values without those that are None where the dataclass `kind` takes no None, as YAML's groups with nothing below them are."""
    hints = get_type_hints(kind)
    found = {}
    for name, inner in values.items():
        choices = (hints.get(name), *get_args(hints.get(name)))
        if inner is None and name in hints and type(None) not in choices:
            continue
        group = next((choice for choice in choices if dataclasses.is_dataclass(choice)), None)
        nested = isinstance(inner, Mapping) and isinstance(group, type)
        found[name] = without_empty(inner, group) if nested else inner  # type: ignore[arg-type]
    return found


def check_keys(values: Mapping[str, Any], kind: type) -> None:
    """Raise ValueError for every key, at any depth, that the dataclass `kind` and those inside it do not have."""
    if unknown := list(_unknown(values, kind, "")):
        raise ValueError("; ".join(unknown))


def build_config(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """A config dataclass from nested plain values. Raises ValueError naming each setting whose value is wrong, and why."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise ValueError("; ".join(map(_reason, error.errors()))) from error


def _reason(found: Mapping[str, Any]) -> str:
    where, message = ".".join(map(str, found["loc"])), found["msg"].removeprefix("Value error, ")
    # what a config says about itself names the setting already
    return message if found["type"] == "value_error" else f"{where} is {found['input']!r}: {message}"


def unknown_key(name: str, known: Collection[str], where: str = "") -> str:
    """What to say about a key that does not exist. where: the group it is in, ending in a dot."""
    return f"no setting {where}{name}; {suggest(name, known, where + '{}')}"


def _unknown(value: Any, kind: Any, where: str) -> Iterator[str]:
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        hints = get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        for name, inner in value.items():
            if name in names:
                yield from _unknown(inner, hints[name], f"{where}{name}.")
                continue
            yield unknown_key(str(name), names, where)
    elif get_origin(kind) in (Union, types.UnionType):
        for choice in get_args(kind):
            if dataclasses.is_dataclass(choice):
                yield from _unknown(value, choice, where)
    elif get_origin(kind) is tuple and isinstance(value, list | tuple):
        inner_kind = get_args(kind)[0]
        for number, inner in enumerate(value):
            yield from _unknown(inner, inner_kind, f"{where.removesuffix('.')}[{number}].")
