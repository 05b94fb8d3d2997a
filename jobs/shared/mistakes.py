"""What is wrong with a command line, in one sentence, before tyro draws a box about it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from types import ModuleType, NoneType
from typing import Any, get_type_hints

from handface.jobs.shared.fields import choices_of, is_positional, is_switch, kinds_of, list_flags, takes_many
from handface.suggest import nearest, suggest

HELP_ALL = "--help-all"
_SHOWN = 4  # flags of a group that are named
HELP = ("-h", "--help", HELP_ALL)


@dataclass(frozen=True)
class Given:
    """The words of a command line before `--`.

    flags: {flag: its values}, `=` taken apart.  spelled: {flag: as it was typed}.  bare: what belongs to no flag.
    """

    flags: dict[str, list[str]] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    bare: list[str] = field(default_factory=list)


def read_words(hints: Mapping[str, Any], arguments: Sequence[str]) -> Given:
    """Tell flags, their values and the rest apart. hints: the type of each flag's value."""
    given = Given()
    room, values = 0.0, given.bare  # how many more words the last flag takes
    for argument in before_dashes(arguments):
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            flag = name.replace("_", "-")
            values = given.flags.setdefault(flag, [])
            given.spelled[flag] = name
            values += [value] if equals else []
            hint = hints.get(flag)
            room = float("inf") if takes_many(hint) else 0 if equals or hint is None or is_switch(hint) else 1
        elif room:
            values.append(argument)
            room -= 1
        else:
            given.bare.append(argument)
    return given


def before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    """What follows `--` belongs to another command."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def check_flags(kind: type, prog: str, arguments: Sequence[str], others: Collection[str]) -> None:
    """Look whether the flags are there and their values can be read.

    Args:
        kind: The verb's dataclass.
        prog: The command, for the hint at its help.
        arguments: What follows it.
        others: Flags that are not of the dataclass.

    Raises:
        ValueError: A flag that the verb does not have, with the nearest one or the verbs that have it; a value that is none of a
            flag's choices, or no number where one is needed; no value.
    """
    flags = flags_of(kind)
    from handface.jobs.cli import BY_NAME

    given = read_words(flags, arguments)
    for flag, values in given.flags.items():
        if flag.startswith("--tyro-") or flag in others:
            continue
        if flag not in flags:
            other = next((word for word in given.bare if word in BY_NAME), "") if "--" not in arguments else ""
            if other and takes_commands(kind):
                raise ValueError(f"put `--` before the command of the job: `{prog} ... -- {other} ...`")
            raise ValueError(f"no flag {given.spelled[flag]}; {_what_instead(flag, kind, prog, [*flags, *others])}")
        hint = flags[flag]
        if is_switch(hint) or takes_many(hint):
            continue
        if not values:
            raise ValueError(f"{flag}: its value is missing (`{prog} --help`)")
        choices, value = choices_of(hint), values[-1]
        if choices and value not in choices:
            raise ValueError(f"{flag} {value}: no such choice; {suggest(value, choices)}")
        if expected := _no_number(hint, value):
            raise ValueError(f"{flag} {value}: {expected} is expected (`{prog} --help`)")


def check_missing(kind: type, prog: str, arguments: Sequence[str], default: Any) -> None:
    """Raise ValueError naming what has no default and is not given, on the command line or by the `default` of a config file."""
    import tyro

    given = read_words(flags_of(kind), arguments)
    hints, names, bare = get_type_hints(kind, include_extras=True), [], len(given.bare)
    for one in fields(kind):
        if one.default is not MISSING or one.default_factory is not MISSING or not one.init:
            continue
        if default is not None and getattr(default, one.name, tyro.MISSING) is not tyro.MISSING:
            continue
        hint, name = hints[one.name], one.name.replace("_", "-")
        if not is_positional(hint):
            names += [f"--{name}"] if f"--{name}" not in given.flags else []
        elif not takes_many(hint):
            names += [name.upper()] if bare < 1 else []
            bare -= 1
    if names:
        raise ValueError(f"give {' and '.join(names)} (`{prog} --help`)")


def takes_commands(kind: type) -> bool:
    """Whether what stands without a flag is a command of its own, as a job's."""
    return any(one.name == "command" for one in fields(kind))


def flags_of(kind: type) -> dict[str, Any]:
    """Every flag with the type of its value; what stands without a flag is left out."""
    return {flag: hint for flag, hint in list_flags(kind) if not is_positional(hint)}


def sentence_of(box: str, prog: str) -> str:
    """What tyro says in a box, for everything that is not looked for here."""
    lines = [line.strip("│╭╮╰╯|+ ") for line in box.splitlines()]
    # a title, what is wrong, and help, with rules between them
    _, *parts = re.split(r"\s*[─-]{3,}\s*", " ".join(line for line in lines if line))
    said = next((part for part in parts if part), box)
    return f"{' '.join(said.split()).rstrip('.')} (`{prog} --help`)"


def _no_number(hint: Any, value: str) -> str:
    """What a flag expects in place of a value that is no number, or ""."""
    kinds = kinds_of(hint)
    if not set(kinds) <= {int, float, NoneType} or not set(kinds) & {int, float}:
        return ""
    if value == "None" and NoneType in kinds:
        return ""
    try:
        float(value) if float in kinds else int(value)
    except ValueError:
        return "a number" if float in kinds else "a whole number"
    return ""


def _what_instead(flag: str, kind: type, prog: str, known: Sequence[str]) -> str:
    """What a flag that the verb does not have could mean: one of its own, a value without a flag, another verb's."""
    hints = get_type_hints(kind, include_extras=True)
    fields_of = {f"--{one.name.replace('_', '-')}": hints[one.name] for one in fields(kind)}
    near = nearest(flag, [*fields_of, *known])
    if near in fields_of and near not in known:
        if is_positional(fields_of[near]):
            return f"what it names stands without a flag: `{prog} {near.lstrip('-').upper()}`"
        inside = [name for name in known if name.startswith(f"{near}.")][:_SHOWN]
        return f"{near} is a group of flags: {', '.join(inside)} ({HELP_ALL} lists them)"
    if "--set" in known and "." in flag and "." not in near:
        return f"keys of the configuration are given as --set {flag.lstrip('-').replace('-', '_')}=VALUE"
    own = suggest(flag, known) if near else ""
    return "; ".join(filter(None, (own, _verbs_with(flag, kind, 1.0 if own else 0.8)))) or f"{HELP_ALL} lists them"


def _verbs_with(flag: str, own: type, likeness: float) -> str:
    """The other verbs that have a flag, or one as like it as that."""
    found: dict[str, list[str]] = {}
    for command, kind in _every_config():
        if kind is not own:
            for name, hint in list_flags(kind):
                # those of groups are many, and no slip of the keyboard
                if "." not in name:
                    bare = f" {name.lstrip('-').upper()}" if is_positional(hint) else ""
                    found.setdefault(name, []).append(f"`handface {command}{bare}`")
    near = nearest(flag, found, likeness)
    return f"{near} is known to {', '.join(found[near])}" if near else ""


def _every_config() -> Iterator[tuple[str, type]]:
    """The dataclass of every verb, and of every one below it."""
    from handface.jobs.cli import VERBS

    for verb in VERBS:
        module: ModuleType = importlib.import_module(f"handface.jobs.{verb.name.replace('-', '_')}")
        subcommands: dict[str, type] | None = getattr(module, "SUBCOMMANDS", None)
        if subcommands is None:
            yield verb.name, module.Config
        else:
            yield from ((f"{verb.name} {name}", kind) for name, kind in subcommands.items())
