"""One training run: everything that, with the data, decides its weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from handface.pipeline.contract.settings import build_config, check_keys
from handface.trainers.data.config import DataConfig, DatasetConfig
from handface.trainers.losses.config import LossConfig
from handface.trainers.priors import PriorsConfig, RealConfig
from handface.trainers.recipes import with_recipe


@dataclass(frozen=True)
class OptimConfig:
    """AdamW as the authors run it, weight decay on matrices only. A preset's recipe changes some of it (`trainers/recipes.py`)."""

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
    """Batches per step, each of `data.batch_size`; every loss is a mean over the samples of all of them."""
    freeze_backbone: int = 0
    """Steps in which the backbone stays as it is: its weights, and the statistics of its norms."""
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
    """Adversarial priors: their losses, and where real parameters come from."""

    real: RealConfig
    adversarial: PriorsConfig = field(default_factory=PriorsConfig)
    lr: float = 3e-5
    """Learning rate of the discriminators."""


@dataclass(frozen=True)
class TrainConfig:
    """A run. Its folder holds `config.json`, `log.jsonl`, TensorBoard files, `checkpoints/`, and the weights in `best/` and `last/`.

    The defaults written here are those of the released training script; `TrainConfig.for_preset` and `loads` put the preset's
    recipe before them.
    """

    data: DataConfig
    """Training data."""
    output: str = "out/run"
    """Folder of the run, a path or fsspec URI (s3://, gs://) that all ranks see."""
    preset: str = "dice-s"
    """dice-w64, dice-s, dice-m or dice-nano."""
    one_branch: bool = False
    """One transformer for mesh and interaction, the paper's ablation."""
    init: str | None = None
    """Start from these weights, a folder of `handface weights` or of another run, instead of random ones."""
    steps: int = 100_000
    """Optimizer steps."""
    validation: tuple[DatasetConfig, ...] = ()
    """Data that chooses the best checkpoint; never the test split."""
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    priors: PriorsRun | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast in the network; losses stay in fp32."""
    compile: bool = False
    """torch.compile the network."""
    sync_batchnorm: bool = True
    """Batch statistics over all ranks, so that ranks together do what one with all samples would."""
    seed: int = 88
    """Of weights, masks and dropout; the data have their own."""
    log_every: int = 20
    log_samples: bool = False
    """Also write the keys of every step's samples, to samples-RANK.jsonl."""
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
        for name in ("steps", "log_every", "validate_every", "validate_samples", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")
        for dataset in self.validation:
            if any(_is_test(uri) for uri in (dataset.name, *dataset.shards)):
                raise ValueError(
                    f"validation set {dataset.name}: {', '.join(dataset.shards)} is a test split; the checkpoint must not be"
                    " chosen on it. Hold out some training subjects instead"
                )

    def dumps(self) -> str:
        """As JSON text, every setting spelled out."""
        from pydantic import TypeAdapter

        return TypeAdapter(TrainConfig).dump_json(self, indent=1).decode() + "\n"

    @classmethod
    def loads(cls, text: str | bytes, strict: bool = True) -> TrainConfig:
        """From JSON text; what it does not name is as the preset's recipe has it.

        Args:
            text: A JSON object.
            strict: Refuse keys that no setting has. False for checkpoints, which another version may have written.

        Raises:
            ValueError: A key is unknown or a value is wrong; the message names it.
        """
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ValueError(f"not JSON ({error})") from error
        if not isinstance(found, dict):
            raise ValueError(f"holds a {type(found).__name__}; a configuration is a mapping of names to values")
        return cls.of(found, strict)

    @classmethod
    def of(cls, settings: Mapping[str, Any], strict: bool = True) -> TrainConfig:
        """From nested plain values, as `loads`."""
        if strict:
            check_keys(settings, cls)
        preset = settings.get("preset", cls.preset)
        return build_config(TrainConfig, with_recipe(settings, preset))

    @classmethod
    def for_preset(cls, preset: str, data: DataConfig, **changes: Any) -> TrainConfig:
        """A run with a preset's recipe; `changes` replace whole fields. Pictures get the size that the preset sees."""
        from handface.model.network.config import preset as network

        recipe = cls.of({"preset": preset, "data": {"datasets": [{"name": "none", "shards": ["none"]}]}})
        sized = replace(data, image_size=network(preset).input.size)
        return replace(recipe, data=sized, **changes)


def _is_test(name: str) -> bool:
    """Whether the word `test` is in a data set's name, or in the name of its folder or tar."""
    parts = name.lower().rstrip("/").split("/")
    last = parts[-2:] if parts[-1].endswith(".tar") else parts[-1:]
    return any("test" in re.split(r"[^a-z0-9]+", part) for part in last)
