"""Down- and up-sampling between a body's mesh and its coarser levels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from handface.model.bodies.arrays import Level


class SamplingLevel(nn.Module):
    """One coarser mesh. keep: (n,) its vertices in the full mesh.  faces: (f, 3)."""

    keep: torch.Tensor
    faces: torch.Tensor
    up_vertices: torch.Tensor
    up_weights: torch.Tensor

    def __init__(self, level: Level, dtype: torch.dtype) -> None:
        super().__init__()
        for name in ("keep", "faces", "up_vertices"):
            self.register_buffer(name, torch.from_numpy(getattr(level, name).astype(np.int64)))
        self.register_buffer("up_weights", torch.tensor(level.up_weights, dtype=dtype))

    def down(self, values: torch.Tensor) -> torch.Tensor:
        """Values at the kept vertices, (B, V, C) -> (B, n, C)."""
        return values[:, self.keep]

    def up(self, values: torch.Tensor) -> torch.Tensor:
        """Values interpolated on the coarse triangles, (B, n, C) -> (B, V, C)."""
        return (values[:, self.up_vertices] * self.up_weights[..., None]).sum(2)
