"""The marked rows of each sample, packed to the front, so that work is done for them alone."""

from __future__ import annotations

import torch


@torch.no_grad()
def compact(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Marked indices first, in order. mask: (B, N) bool. Returns index (B, K) and valid (B, K) bool.

    K is the largest number of marks of a sample (at least 1) on the CPU, where asking costs nothing; N on an accelerator, which need
    not wait for the host then.
    """
    index = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    if mask.device.type == "cpu":
        index = index[:, : max(1, int(mask.sum(1).max()))]
    return index, mask.gather(1, index)


def take(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of each sample: values (B, N, C) and index (B, K) -> (B, K, C)."""
    return values.gather(1, index[..., None].expand(*index.shape, values.shape[-1]))
