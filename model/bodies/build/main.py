"""Builds every data file of the free bodies from the wheel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from handface.model.bodies.arrays import BodyArrays
from handface.model.bodies.attachment import ATTACHMENTS, AttachmentArrays, save_attachment
from handface.model.bodies.build.attachments import build_bust, build_forearm
from handface.model.bodies.build.hand import build_hand
from handface.model.bodies.build.head import build_head
from handface.model.bodies.build.skin import build_skin
from handface.model.bodies.build.wheel import PACKAGE, WHEEL_SHA256, HumanData
from handface.model.bodies.npz import save_body, write_arrays

_SOURCE = {"package": PACKAGE, "sha256": WHEEL_SHA256, "licence": "CC0-1.0 (see LICENCE.txt)"}


def build(wheel: Path, output: Path) -> Iterator[Path]:
    """Write hand, head, their attachments and the skin atlas into `output`; yields each path when it is there (seconds each)."""
    human = HumanData(wheel)
    output.mkdir(parents=True, exist_ok=True)
    for name, body, attachment in build_bodies(human):
        save_body(output / f"{name}.npz", body)
        yield output / f"{name}.npz"
        save_attachment(output / f"{ATTACHMENTS[name]}.npz", attachment)
        yield output / f"{ATTACHMENTS[name]}.npz"
    write_arrays(output / "skin.npz", build_skin(human))
    yield output / "skin.npz"


def build_bodies(human: HumanData) -> Iterator[tuple[str, BodyArrays, AttachmentArrays]]:
    """The hand, then the head, each with its attachment."""
    for name, make, attach in (("hand", build_hand, build_forearm), ("head", build_head, build_bust)):
        body = make(human)
        body = replace(body, provenance={**body.provenance, **_SOURCE}).check(name)
        yield name, body, attach(human, body)
