"""Adversarial priors: are these hand and face parameters those of a person? Start reading at adversarial.py."""

from handface.trainers.priors.adversarial import AdversarialPriors, PriorInput, PriorResult, PriorsConfig
from handface.trainers.priors.parameters import ParameterSet, PriorDataError
from handface.trainers.priors.sampler import PriorSource, RealConfig, RealParameters

__all__ = [
    "AdversarialPriors",
    "ParameterSet",
    "PriorDataError",
    "PriorInput",
    "PriorResult",
    "PriorSource",
    "PriorsConfig",
    "RealConfig",
    "RealParameters",
]
