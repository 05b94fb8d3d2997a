"""Real samples for the discriminators: a weighted mix of parameter sets, a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.network.topology import PartSizes, Sizes
from handface.trainers.priors.adversarial import PARTS, PriorInput
from handface.trainers.priors.parameters import Floats, ParameterSet, PriorDataError
from handface.trainers.priors.sources import read_parameters


@dataclass(frozen=True)
class PriorSource:
    """One place that real parameters come from, and how much of the mix it is."""

    path: str
    """Shards with 3D labels, FreiHAND (folder or training_mano.json), RenderMe-360 (.smc file or folder of them), or a file of
    `handface priors`."""
    weight: float = 1.0
    """Share of the draws, relative to the other sources of the part."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"prior source {self.path}: weight {self.weight} must be positive")


@dataclass(frozen=True)
class RealConfig:
    """Where real parameters come from. As released: hands 60 % Decaf, 40 % FreiHAND; faces 60 % Decaf, 40 % RenderMe-360."""

    hand: tuple[PriorSource, ...] = ()
    """Sources of hands."""
    head: tuple[PriorSource, ...] = ()
    """Sources of faces."""
    seed: int = 88
    """Of the draws."""
    freihand_mean_pose: bool = True
    """FreiHAND's poses are relative to the mean pose: add it. False repeats the released training, which forgot to."""

    @classmethod
    def released(cls, decaf: str, freihand: str, renderme: str) -> RealConfig:
        """The released mix."""
        return cls(
            hand=(PriorSource(decaf, 0.6), PriorSource(freihand, 0.4)),
            head=(PriorSource(decaf, 0.6), PriorSource(renderme, 0.4)),
        )


class RealParameters:
    """Draws rows with replacement. It has no state: the sample of a step depends on seed and step alone, so that resuming is free."""

    def __init__(
        self, hand: Sequence[tuple[Floats, float]], head: Sequence[tuple[Floats, float]], seed: int = 88
    ) -> None:
        """hand, head: (rows (N, D), weight) per source; see `ParameterSet.hands` and `.heads`. Raises PriorDataError if one is empty."""
        self.seed = seed
        self._sets: dict[str, tuple[list[Floats], NDArray[np.float64]]] = {}
        for part, sources in zip(PARTS, (hand, head), strict=True):
            if not sources or any(len(rows) == 0 for rows, _ in sources):
                raise PriorDataError(f"the {part} prior has no real samples to learn from: name a source that has some")
            weights = np.array([weight for _, weight in sources])
            self._sets[part] = [rows for rows, _ in sources], np.cumsum(weights / weights.sum())

    @classmethod
    def open(cls, config: RealConfig, sizes: Sizes) -> RealParameters:
        """Read all sources (each file once) and check that they are of the network's bodies.

        A source named for hands and heads may hold one of them alone. Raises PriorDataError or OSError.
        """
        read: dict[str, ParameterSet] = {}
        for source in config.hand + config.head:
            if source.path not in read:
                read[source.path] = read_parameters(
                    source.path, sizes.hand.body, config.freihand_mean_pose, sizes.head.body
                ).unique()
        shared = {source.path for source in config.hand} & {source.path for source in config.head}
        found: dict[str, list[tuple[Floats, float]]] = {part: [] for part in PARTS}
        for part, sources, size in (("hand", config.hand, sizes.hand), ("head", config.head, sizes.head)):
            for source in sources:
                parameters = read[source.path]
                # FreiHAND has no faces, RenderMe-360 no hands; given for both they serve the part that they have
                if source.path in shared and not len(parameters.hands() if part == "hand" else parameters.heads()):
                    continue
                found[part].append((_fitting(parameters, part, size), source.weight))
        return cls(found["hand"], found["head"], config.seed)

    def sample(
        self, step: int, batch: int, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"
    ) -> PriorInput:
        """The rank's `batch` rows of this step's `batch * world`, float32: together the ranks see what one rank alone would."""
        rows = slice(rank * batch, (rank + 1) * batch)
        drawn = [torch.from_numpy(self._draw(part, step, batch * world)[rows]) for part in PARTS]
        return PriorInput(drawn[0], drawn[1]).to(device)

    def _draw(self, part: str, step: int, count: int) -> Floats:
        sets, cumulative = self._sets[part]
        rng = np.random.default_rng([self.seed, step, PARTS.index(part)])
        uniform = rng.random((count, 2))
        which = np.minimum(np.searchsorted(cumulative, uniform[:, 0], side="right"), len(sets) - 1)
        drawn = np.empty((count, sets[0].shape[1]), np.float32)
        for index, rows in enumerate(sets):
            mine = np.flatnonzero(which == index)
            drawn[mine] = rows[(uniform[mine, 1] * len(rows)).astype(np.int64)]
        return drawn


def _fitting(parameters: ParameterSet, part: str, sizes: PartSizes) -> Floats:
    """The part's rows, after checking that they are coefficients of the network's own body."""
    rows = parameters.hands() if part == "hand" else parameters.heads()
    expected = sizes.pose + sizes.betas if part == "hand" else 3 + sizes.expression + sizes.betas
    model = parameters.hand_model if part == "hand" else parameters.head_model
    if len(rows) == 0:
        raise PriorDataError(f"{parameters.source}: holds no {part} parameters")
    if rows.shape[1] != expected or _is_free(model) != _is_free(sizes.body):
        raise PriorDataError(
            f"{parameters.source}: {part} parameters are {rows.shape[1]} numbers of {model or 'an unnamed body'}, the network's"
            f" {sizes.body or 'body'} has {expected}; coefficients of different bodies do not compare"
        )
    return rows


def _is_free(model: str | None) -> bool:
    return model is not None and model.startswith("free-")
