"""`handface models list|pull|verify`: the weights of the networks, fetched once and checked by hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from handface.pipeline.contract.model_store import ModelError, ModelStore, file_sha256, models
from handface.suggest import suggest

_ACTIONS = ("list", "pull", "verify")
_WIDE = 1000  # columns


@dataclass(frozen=True)
class Config:
    """List, fetch or verify weights. Without names, `pull` takes all, and `verify` all that are here."""

    action: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="{list,pull,verify}")] = "list"
    """What to do."""
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Models; see `handface models list`."""

    def __post_init__(self) -> None:
        if self.action not in _ACTIONS:
            raise ValueError(f"nothing is called {self.action!r} here; {suggest(self.action, _ACTIONS)}")


def run(config: Config) -> int:
    """Exit code 0, or 1 if a model could not be fetched or is not what it should be."""
    chosen = config.names or tuple(models())
    for name in chosen:
        if name not in models():
            raise ModelError(f"there is no model {name!r}; {suggest(name, models())}")
    if config.action == "list":
        return _list(chosen)
    return _pull(chosen) if config.action == "pull" else _verify(chosen, config.names)


def _list(chosen: tuple[str, ...]) -> int:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "task", "size", "licence", "sha256", "where", box=None)
    for name in chosen:
        model = models()[name]
        try:
            path = ModelStore().find(name)
            where = str(path) if path else "not here: handface models pull " + name
        except ModelError as error:
            where = str(error)
        size = f"{model.bytes / 1e6:.1f} MB"
        table.add_row(name, model.task, size, model.licence, model.sha256[:12], where)
    # as wide as it needs to be: a name that is cut cannot be copied
    Console(width=_WIDE).print(table)
    return 0


def _pull(chosen: tuple[str, ...]) -> int:
    from rich.console import Console

    console, failed = Console(), 0
    for name in chosen:
        try:
            console.print(f"{name}: {_fetch(name)} ({models()[name].licence})", soft_wrap=True, markup=False)
        except ModelError as error:
            failed += 1
            console.print(str(error), style="red", soft_wrap=True, markup=False)
    return 1 if failed else 0


def _fetch(name: str) -> Path:
    """A model's file; a bar on stderr while it comes."""
    from handface.jobs.shared.progress import byte_progress

    size = models()[name].bytes
    with byte_progress(name) as advance:
        return ModelStore().path(name, lambda count: advance(count, size))


def _verify(chosen: tuple[str, ...], named: tuple[str, ...]) -> int:
    from rich.console import Console

    console, failed = Console(), 0
    for name in chosen:
        try:
            path = ModelStore().find(name)
        except ModelError as error:
            failed += 1
            console.print(f"{name}: {error}", style="red", soft_wrap=True, markup=False)
            continue
        failed += path is None and name in named
        text = f"{name}: not here" if path is None else f"{name}: {path} {file_sha256(path)[:12]} ok"
        console.print(text, soft_wrap=True, markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    import sys

    from handface.jobs.cli import main_for

    sys.exit(main_for("models"))
