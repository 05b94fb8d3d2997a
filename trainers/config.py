"""One training run: everything that, with the data, decides its weights."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from handface.trainers.data.config import DataConfig, DatasetConfig
from handface.trainers.losses.config import LossConfig
from handface.trainers.priors import PriorsConfig, RealConfig


@dataclass(frozen=True)
class OptimConfig:
    """AdamW as the authors run it; weight decay on matrices only."""

    lr: float = 3e-5
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running moments."""
    weight_decay: float = 1e-4
    """Decoupled weight decay."""
    warm_up: int | None = None
    """Steps in which the rate grows from 0. None: a twentieth of all steps, at most 500."""
    schedule: Literal["step", "cosine", "constant"] = "step"
    """step: a tenth of the rate after half of the steps, as released; cosine: down to a hundredth."""
    clip_value: float | None = 0.3
    """Largest gradient entry, as released."""
    clip_norm: float | None = None
    """Largest gradient norm."""
    accumulate: int = 1
    """Batches per step."""
    freeze_backbone: int = 0
    """Steps in which the backbone stays as it is."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is validated and exported; 0 is none."""

    def warm_up_of(self, steps: int) -> int:
        """Steps of warm-up in a run of so many."""
        return min(500, steps // 20) if self.warm_up is None else self.warm_up

    def __post_init__(self) -> None:
        if not self.lr > 0 or self.accumulate < 1 or not 0 <= self.ema < 1:
            raise ValueError(
                f"optim: lr {self.lr} must be positive, accumulate {self.accumulate} at least 1, ema {self.ema} in [0, 1)"
            )


@dataclass(frozen=True)
class PriorsRun:
    """Adversarial priors: the game, and where real parameters come from."""

    real: RealConfig
    game: PriorsConfig = field(default_factory=PriorsConfig)
    lr: float = 3e-5
    """Learning rate of the discriminators."""


@dataclass(frozen=True)
class TrainConfig:
    """A run. Its folder holds `config.json`, `log.jsonl`, TensorBoard files, `checkpoints/`, and the weights in `best/` and `last/`."""

    data: DataConfig
    """Training data."""
    output: Path = Path("out/run")
    """Folder of the run, on storage that all ranks see."""
    preset: str = "dice-s"
    """dice-w64, dice-s or dice-nano."""
    one_branch: bool = False
    """One transformer for mesh and interaction, the paper's ablation."""
    init: Path | None = None
    """Start from these weights (a folder of `handface weights`) instead of random ones."""
    steps: int = 100_000
    """Optimizer steps."""
    validation: tuple[DatasetConfig, ...] = ()
    """Data that chooses the best checkpoint; never the test split."""
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    priors: PriorsRun | None = None
    depth_from: int = 0
    """Step from which the depth term counts (the authors: from epoch 2)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast in the network; losses stay in fp32."""
    compile: bool = False
    """torch.compile the network."""
    sync_batchnorm: bool = True
    """Batch statistics over all ranks, so that ranks together do what one with all samples would."""
    seed: int = 88
    """Of weights, masks and dropout; the data have their own."""
    log_every: int = 20
    validate_every: int = 1000
    validate_samples: int = 512
    """At most so many samples of each validation set."""
    checkpoint_every: int = 1000
    keep: int = 2
    """Checkpoints to keep, the newest; `best/` stays whatever its age."""
    rollbacks: int = 3
    """Times a run may go back to its last checkpoint because a loss was not finite."""
    wandb: str | None = None
    """Also log to this Weights & Biases project (extra `wandb`)."""
    resume: Literal["auto", "never"] = "auto"
    """auto: go on from the newest checkpoint in the folder, if there is one."""

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "validate_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")
        for dataset in self.validation:
            if any(_is_test(uri) for uri in (dataset.name, *dataset.shards)):
                raise ValueError(
                    f"validation set {dataset.name}: {', '.join(dataset.shards)} is a test split; the checkpoint must not be"
                    " chosen on it. Hold out some training subjects instead"
                )

    def dumps(self) -> str:
        """As JSON text."""
        from pydantic import TypeAdapter

        return TypeAdapter(TrainConfig).dump_json(self, indent=1).decode() + "\n"

    @classmethod
    def loads(cls, text: str | bytes) -> TrainConfig:
        """From JSON text. Raises ValueError (pydantic's) that names the field."""
        from pydantic import TypeAdapter

        return TypeAdapter(TrainConfig).validate_json(text)

    def differences(self, other: TrainConfig) -> list[str]:
        """Fields that decide the weights and differ, as `name mine != theirs`."""
        free = {"output", "wandb", "log_every", "validate_every", "checkpoint_every", "keep", "resume", "rollbacks"}
        if self.optim.schedule == "constant" and self.optim.warm_up_of(self.steps) == other.optim.warm_up_of(
            other.steps
        ):
            free.add("steps")  # other schedules depend on it
        free |= {"data.batch_size", "data.workers", "data.prefetch", "data.index_folder", "validate_samples"}
        mine, theirs = (_flat(json.loads(config.dumps())) for config in (self, other))
        return [
            f"{name} {mine.get(name)!r} != {theirs.get(name)!r}"
            for name in sorted(mine | theirs)
            if name not in free and mine.get(name) != theirs.get(name)
        ]


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.removesuffix("."): tree}
    return {key: value for name, branch in tree.items() for key, value in _flat(branch, f"{prefix}{name}.").items()}


def _is_test(name: str) -> bool:
    """Whether the word `test` is in a data set's name, or in the name of its folder or tar."""
    parts = name.lower().rstrip("/").split("/")
    last = parts[-2:] if parts[-1].endswith(".tar") else parts[-1:]
    return any("test" in re.split(r"[^a-z0-9]+", part) for part in last)
