"""What is tabulated and how sure it is; without torch, so that `handface evaluate --help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class BootstrapConfig:
    """How confidence intervals are made: percentiles over samples drawn again with replacement; over subjects, Student's t."""

    replicates: int = 1000
    """Times that the test set is drawn again; 0 gives no intervals."""
    level: float = 0.95
    """Share of replicates between the bounds."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        if self.replicates < 0 or not 0 < self.level < 1:
            raise ValueError(f"bootstrap: {self.replicates} replicates at level {self.level}")


@dataclass(frozen=True)
class TableConfig:
    """What is tabulated."""

    by: tuple[str, ...] = ("dataset", "touch", "side", "subject", "camera")
    """Also tabulate subsets: dataset, touch, side, subject, or any column of the samples' source (camera, region, grip ...)."""
    most: int = 40
    """A column with more different values than this is not split by."""
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
