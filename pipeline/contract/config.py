"""The base of every config: to and from JSON, a digest, and the fields in which two differ."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval, MultipleOf

if TYPE_CHECKING:
    from typing import Self

# What a number of a config may be where 0 and up is not it; verbs and config files refuse others.
Count = Annotated[int, Interval(ge=1)]
Share = Annotated[float, Interval(ge=0, le=1)]
Signed = Annotated[float, Interval(ge=-math.inf)]
PatchSide = Annotated[int, Interval(ge=14), MultipleOf(14)]  # of a picture that Depth Anything cuts into patches
Port = Annotated[int, Interval(ge=0, le=65535)]
JpegQuality = Annotated[int, Interval(ge=1, le=100)]
# Bits of 64 in which hashes of copies may differ; with more, comparing all pairs takes too long. -1: nothing is a copy.
MaybeDistance = Annotated[int, Interval(ge=-1, le=11)]
Distance = Annotated[int, Interval(ge=0, le=11)]


class BaseConfig:
    """What frozen dataclasses that configure something inherit. Their fields are plain values or further dataclasses."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values of every field, nested as the fields are."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))  # type: ignore[call-overload]
        return plain

    def dumps(self) -> str:
        """As JSON text; equal configs give equal text."""
        return json.dumps(self.as_dict(), indent=1, sort_keys=True) + "\n"

    @classmethod
    def loads(cls, text: str | bytes) -> Self:
        """The inverse of `dumps`; fields that the text lacks take their defaults. Raises ValueError naming the field."""
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_json(text)

    def digest(self, *versions: object) -> str:
        """Hex sha256 over every field and `versions` (of the code and formats that turn the config into bytes)."""
        text = json.dumps([*versions, self.as_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def of(cls, config: Self) -> Self:
        """The fields of this class out of a config that has more, such as a command's."""
        return cls(**{f.name: getattr(config, f.name) for f in fields(cls)})  # type: ignore[arg-type]


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Fields in which two nested dictionaries differ, as `pack.jpeg_quality was 92, is 80`, in alphabetical order."""
    old, new = _flat(before), _flat(now)
    changed = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
    return [
        f"{name}: the files have other content than when the run began"
        if name.endswith("_digest") and old.get(name) and new.get(name)
        else f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
        for name in changed
    ]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
