"""Prepare a trained network for inference: the same function with less arithmetic."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from handface.model.network.dice import Dice
from handface.model.network.upsampling import DenseStep, Upsampling, as_columns, from_columns


def fold(model: Dice) -> Dice:
    """A copy in eval mode that gives the same outputs up to rounding.

    Batch normalisations go into the convolutions and linear maps before them; chains of dense up-sampling whose middle level
    nobody reads (contact, deformation) become one product, and only their finest level is returned.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    _fold_norms(folded)
    for name in ("head_deformation_up", "head_contact_up", "hand_contact_up"):
        setattr(folded, name, FinestLevel(getattr(folded, name)))
    return folded


def _fold_norms(root: nn.Module) -> None:
    """Fold every `convN`, `bnN` pair and every neighbouring pair inside a Sequential."""
    for module in root.modules():
        names = list(module._modules)
        for first, second in itertools.pairwise(names):
            neighbours = isinstance(module, nn.Sequential) or (first, second) in _NAMED
            before, after = module._modules[first], module._modules[second]
            fused = _fuse(before, after) if neighbours else None
            if fused is not None:
                setattr(module, first, fused)
                setattr(module, second, nn.Identity())


_NAMED = {(f"conv{index}", f"bn{index}") for index in (1, 2, 3)}


def _fuse(layer: Any, norm: Any) -> nn.Module | None:
    """The layer with the norm inside, computed in float64; None if this is no such pair."""
    if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        dtype = layer.weight.dtype
        return fuse_conv_bn_eval(layer.double(), norm.double()).to(dtype)
    if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
        dtype = layer.weight.dtype
        return fuse_linear_bn_eval(layer.double(), norm.double()).to(dtype)
    return None


class FinestLevel(nn.Module):
    """An up-sampling chain that returns its finest level only. (B, n, C) -> ((B, V, C),)."""

    def __init__(self, chain: Upsampling) -> None:
        super().__init__()
        dense = [step for step in chain.steps if isinstance(step, DenseStep)]
        self.steps = nn.ModuleList([_compose(dense)] if len(dense) == len(chain.steps) else chain.steps)

    def forward(self, coarse: torch.Tensor) -> tuple[torch.Tensor]:
        """(B, n, C) -> ((B, V, C),)."""
        columns = as_columns(coarse)
        for step in self.steps:
            columns = step(columns)
        return (from_columns(columns, coarse.shape[2]),)


def _compose(steps: list[DenseStep]) -> DenseStep:
    """W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2), computed in float64."""
    weight, bias = steps[0].linear.weight.double(), steps[0].linear.bias.double()
    for step in steps[1:]:
        outer = step.linear.weight.double()
        weight, bias = outer @ weight, outer @ bias + step.linear.bias.double()
    composed = DenseStep(weight.shape[1], weight.shape[0]).to(weight.device)
    composed.linear.weight = nn.Parameter(weight.to(steps[0].linear.weight.dtype), requires_grad=False)
    composed.linear.bias = nn.Parameter(bias.to(steps[0].linear.bias.dtype), requires_grad=False)
    return composed
