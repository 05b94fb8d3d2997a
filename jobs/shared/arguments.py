"""Command lines and config files -> a verb's typed configuration."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Annotated, Any, Union, get_type_hints

from handface.jobs.shared.fields import dataclass_of, dress_for_help, is_switch, list_flags, takes_many
from handface.jobs.shared.messages import QUIET, VERBOSE
from handface.jobs.shared.mistakes import HELP, HELP_ALL, before_dashes, check_flags, check_missing, sentence_of
from handface.pipeline.contract.settings import read_mapping, unknown_key
from handface.suggest import suggest

if TYPE_CHECKING:
    from types import ModuleType

CONFIG, DUMP_CONFIG = "--config", "--dump-config"


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


def parse_arguments(
    module: ModuleType, prog: str, description: str, arguments: Sequence[str], example: str = ""
) -> Parsed:
    """Read the flags of a verb; values of a `--config` file are the defaults that flags override.

    Args:
        module: holds the dataclass `Config`, or `SUBCOMMANDS`: {name: dataclass}.
        prog: the command as people type it, for help and errors.
        description: the text above the flags; a command of the verb has its own.
        arguments: what follows the verb.
        example: a whole command line, shown below the text of what it is an example of.

    Raises:
        ValueError: flags are wrong or missing, the file is not readable, or holds a key or value that the verb does not know.
        SystemExit: after `--help`.
    """
    import tyro

    rest = list(arguments)
    asks_help = bool(set(HELP) & set(before_dashes(rest)))
    kind, command = _choose(module, prog, rest, asks_help)
    if command != prog:
        prog, description = command, (kind.__doc__ or description).strip()
    if example.startswith(prog):
        description += f"\n\nExample: {example}"
    if isinstance(kind, type):
        check_flags(kind, prog, rest, (CONFIG, DUMP_CONFIG, HELP_ALL, "--help"))
        rest = _join_repeated(kind, rest)
    own_config = any(f.name == "config" for f in fields(kind)) if is_dataclass(kind) else True
    default, dump = None, None
    if not own_config:
        file, dump = _take(rest, CONFIG), _take(rest, DUMP_CONFIG)
        default = read_defaults(kind, read_mapping(Path(file)), file) if file else None
    if asks_help:
        description += f"\n\n{QUIET} and {VERBOSE} say less or more."
    if isinstance(kind, type) and not asks_help and not any(one.startswith("--tyro-") for one in rest):
        check_missing(kind, prog, rest, default)
    if isinstance(kind, type) and asks_help:
        kind, hidden = dress_for_help(kind, whole=HELP_ALL in rest)
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
    if default is not None:
        options["default"] = default
    return Parsed(_parse(kind, options), None if dump is None else Path(dump))


def _parse(kind: Any, options: dict[str, Any]) -> Any:
    """Let tyro read the flags. Raises ValueError with what a config says about its own values, or what tyro says in a box."""
    import tyro

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, **options)
    except SystemExit as ended:
        cause = ended.__cause__ or ended.__context__
        while cause is not None:
            if isinstance(cause, ValueError) and _raised_here(cause):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        if ended.code:
            raise ValueError(sentence_of(said.getvalue(), options["prog"])) from None
        sys.stderr.write(said.getvalue())
        raise


def _raised_here(error: BaseException) -> bool:
    """Whether the project's own code raised the error."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("handface.")


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
        nested = dataclass_of(hints[name])
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


def _choose(module: ModuleType, prog: str, rest: list[str], asks_help: bool) -> tuple[Any, str]:
    """The dataclass to fill; a subcommand that is named first is taken from `rest`."""
    import tyro

    subcommands: dict[str, type] | None = getattr(module, "SUBCOMMANDS", None)
    if subcommands is None:
        return module.Config, prog
    if rest and rest[0] in subcommands:
        name = rest.pop(0)
        return subcommands[name], f"{prog} {name}"
    if rest and not rest[0].startswith("-"):
        raise ValueError(f"no command {rest[0]!r}; {suggest(rest[0], subcommands, f'`{prog} {{}}`')}")
    if not asks_help and not any(one.startswith("--tyro-") for one in rest):
        raise ValueError(f"say what to do: {', '.join(subcommands)} (`{prog} --help`)")
    choices = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in subcommands.items())
    return Union[choices], prog  # noqa: UP007


def _join_repeated(kind: type, arguments: list[str]) -> list[str]:
    """The arguments with all values of a flag that is given several times behind its first mention.

    Raises ValueError for such a flag that takes one value: without a word, all but the last would be lost.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    hints = dict(list_flags(kind))
    # what stands before the first flag, then each flag with what follows it
    groups: list[list[str]] = [[]]
    first: dict[str, list[str]] = {}
    for argument in arguments[:end]:
        if not argument.startswith("--"):
            groups[-1].append(argument)
            continue
        name, equals, value = argument.partition("=")
        flag = name.replace("_", "-")
        hint = hints.get(flag)
        if takes_many(hint):
            groups.append(first.setdefault(flag, [name]))
            groups[-1] += [value] if equals else []
            continue
        if flag in first and (flag in (CONFIG, DUMP_CONFIG) or not (hint is None or is_switch(hint))):
            raise ValueError(f"{flag} is given twice and takes one value; leave one of them out")
        groups.append(first.setdefault(flag, [argument]))
    unique = {id(group): group for group in groups}
    return [argument for group in unique.values() for argument in group] + arguments[end:]


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
