"""Collect real hand and face parameters, which the adversarial priors compare the network's with, in one small file."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from handface.jobs.shared.outputs import OneFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """Where parameters come from and where they go."""

    source: tyro.conf.Positional[str]
    """Shards with 3D labels (tar, folder or glob), FreiHAND's folder, or RenderMe-360 .smc files' folder."""
    output: Annotated[Path, OneFile()] = Path("out/parameters.safetensors")
    """The file; give it to training as a source of the priors."""
    hand_model: str = ""
    """For FreiHAND: the imported MANO_RIGHT.npz, whose mean pose its poses start from."""
    mean_pose: bool = True
    """Whether that mean pose is added; --no-mean-pose repeats the released training, which forgot to."""


def run(config: Config) -> int:
    """Read, leave repeats out, write. Returns 0."""
    from handface.trainers.priors.sources import read_parameters

    if config.output.suffix != ".safetensors":
        raise ValueError(f"output {config.output}: the file's name must end in .safetensors")
    found = read_parameters(config.source, config.hand_model, config.mean_pose).unique()
    found.save(config.output)
    hands, heads = len(found.hands()), len(found.heads())
    log.info("%s: %d hands (%s), %d faces (%s)", config.output, hands, found.hand_model, heads, found.head_model)
    return 0


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("priors"))
