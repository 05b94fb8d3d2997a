"""Command lines and config files -> a verb's typed configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_type_hints

from handface.jobs.shared.messages import QUIET, VERBOSE
from handface.pipeline.contract.settings import read_mapping, unknown_key

if TYPE_CHECKING:
    from types import ModuleType

CONFIG, DUMP_CONFIG, HELP_ALL = "--config", "--dump-config", "--help-all"


@dataclass(frozen=True)
class Parsed:
    """What a command line asks for.

    Attributes:
        config: an instance of the verb's `Config`, or of one of its `SUBCOMMANDS`.
        dump: where to write the configuration instead of running, or None.
    """

    config: Any
    dump: Path | None = None

    def write(self) -> None:
        """Write the configuration as JSON, in the form that `--config` reads."""
        assert self.dump is not None
        self.dump.parent.mkdir(parents=True, exist_ok=True)
        self.dump.write_text(json.dumps(asdict(self.config), indent=1, default=str) + "\n")


def parse_arguments(module: ModuleType, prog: str, description: str, arguments: Sequence[str]) -> Parsed:
    """Read the flags of a verb; values of a `--config` file are the defaults that flags override.

    Args:
        module: holds the dataclass `Config`, or `SUBCOMMANDS`: {name: dataclass}.
        prog: the command as people type it, for help and errors.
        description: the text above the flags.
        arguments: what follows the verb.

    Raises:
        ValueError: the file is not readable, or holds a key or value that the verb does not know.
        SystemExit: after `--help`, or when flags are wrong (code 2).
    """
    import tyro

    rest = list(arguments)
    kind, prog = _choose(module, prog, rest)
    own_config = any(f.name == "config" for f in fields(kind)) if is_dataclass(kind) else True
    default, dump = None, None
    if not own_config:
        file, dump = _take(rest, CONFIG), _take(rest, DUMP_CONFIG)
        default = read_defaults(kind, read_mapping(Path(file)), file) if file else None
    if {"-h", "--help", HELP_ALL} & set(rest):
        description += f"\n\n{QUIET} and {VERBOSE} say less or more."
    if HELP_ALL in rest:
        rest = ["--help"]
    elif isinstance(kind, type) and is_dataclass(kind) and {"-h", "--help"} & set(rest):
        kind, hidden = _hide_nested(kind)
        default, rest = None, ["--help"]
        if hidden:
            groups = " ".join(f"--{name.replace('_', '-')}.*" for name in hidden)
            description += f"\n\nFurther flags: {groups} ({HELP_ALL} lists them)."
        if not own_config:
            description += f" {CONFIG} FILE reads any of them from JSON or YAML, {DUMP_CONFIG} FILE writes them."
    # FlagCreatePairsOff: --json, not --json | --no-json
    options: dict[str, Any] = {
        "prog": prog,
        "description": description,
        "args": rest,
        "config": (tyro.conf.FlagCreatePairsOff,),
    }
    parsed = tyro.cli(kind, **options) if default is None else tyro.cli(kind, default=default, **options)
    return Parsed(parsed, None if dump is None else Path(dump))


def read_defaults(kind: type, tree: Mapping[str, Any], where: str) -> Any:
    """An instance of a config dataclass from plain values; what the tree leaves out keeps its default or is asked for.

    Args:
        kind: the dataclass.
        tree: {field: value}, nested for nested dataclasses; names may be spelled with - or _.
        where: the file, for errors.

    Raises:
        ValueError: an unknown key, with the nearest known one, or a value of another type.
    """
    import tyro
    from pydantic import TypeAdapter, ValidationError

    hints, known = get_type_hints(kind, include_extras=True), {f.name: f for f in fields(kind) if f.init}
    plain = {str(key).replace("-", "_"): value for key, value in tree.items()}
    for key in plain:
        if key not in known:
            raise ValueError(f"{where}: {unknown_key(key, known)}")
    values: dict[str, Any] = {}
    for name, one in known.items():
        nested = _dataclass_of(hints[name])
        if name not in plain:
            if one.default is not MISSING:
                values[name] = one.default
            else:
                values[name] = tyro.MISSING if one.default_factory is MISSING else one.default_factory()
        elif nested is not None and isinstance(plain[name], Mapping):
            values[name] = read_defaults(nested, plain[name], f"{where}: {name}")
        else:
            try:
                values[name] = TypeAdapter(hints[name]).validate_python(plain[name])
            except ValidationError as error:
                first = error.errors()[0]["msg"]
                raise ValueError(f"{where}: {name}: {plain[name]!r}: {first}") from error
    # Not by its constructor, which would check values that the command line has still to give.
    instance: Any = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance


def _choose(module: ModuleType, prog: str, rest: list[str]) -> tuple[Any, str]:
    """The dataclass to fill; a subcommand that is named first is taken from `rest`."""
    import tyro

    subcommands: dict[str, type] | None = getattr(module, "SUBCOMMANDS", None)
    if subcommands is None:
        return module.Config, prog
    if rest and rest[0] in subcommands:
        name = rest.pop(0)
        return subcommands[name], f"{prog} {name}"
    choices = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in subcommands.items())
    return Union[choices], prog  # noqa: UP007


def _hide_nested(kind: type) -> tuple[type, list[str]]:
    """The same dataclass for a short help: nested groups are left out. Also their names."""
    import tyro

    hints, hidden = get_type_hints(kind, include_extras=True), []
    names: dict[str, Any] = {"__annotations__": {}, "__module__": kind.__module__, "__doc__": kind.__doc__}
    for one in fields(kind):
        if _dataclass_of(hints[one.name]) is not None:
            hidden.append(one.name)
            names["__annotations__"][one.name] = Annotated[hints[one.name], tyro.conf.Suppress]
            factory = one.default_factory
            names[one.name] = field(default=one.default) if factory is MISSING else field(default_factory=factory)
    return dataclass(frozen=True)(type(kind.__name__, (kind,), names)), hidden


def _dataclass_of(hint: Any) -> type | None:
    """The dataclass that a field holds, without the marks round it."""
    bare = getattr(hint, "__origin__", hint) if hasattr(hint, "__metadata__") else hint
    return bare if isinstance(bare, type) and is_dataclass(bare) else None


def _take(rest: list[str], flag: str) -> str | None:
    """Remove `flag VALUE` or `flag=VALUE` from the arguments and return the value."""
    for at, argument in enumerate(rest):
        name, equals, value = argument.partition("=")
        if name != flag:
            continue
        if not equals:
            if at + 1 == len(rest):
                raise ValueError(f"{flag}: name a file")
            value = rest.pop(at + 1)
        rest.pop(at)
        return value
    return None
