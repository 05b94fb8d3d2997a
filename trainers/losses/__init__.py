"""Every loss of the paper, and the objective that weighs them. Start reading at objective.py."""

from handface.trainers.losses.config import DepthConfig, Faults, LossConfig, LossWeights
from handface.trainers.losses.objective import Objective, ReduceCount

__all__ = ["DepthConfig", "Faults", "LossConfig", "LossWeights", "Objective", "ReduceCount"]
