"""Every loss of the paper, and the objective that weighs them. Start reading at objective.py."""

from handface.trainers.losses.config import DepthLossConfig, Faults, LossConfig, LossStarts, LossWeights
from handface.trainers.losses.counts import label_counts
from handface.trainers.losses.objective import Objective, ReduceCounts

__all__ = [
    "DepthLossConfig",
    "Faults",
    "LossConfig",
    "LossStarts",
    "LossWeights",
    "Objective",
    "ReduceCounts",
    "label_counts",
]
