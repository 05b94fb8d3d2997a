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

    def down_matrix(self) -> torch.Tensor:
        """D as a sparse (n, V) matrix, one 1 per row."""
        rows = torch.arange(len(self.keep), device=self.keep.device)
        ones = torch.ones_like(rows, dtype=self.up_weights.dtype)
        return torch.sparse_coo_tensor(
            torch.stack([rows, self.keep]), ones, (len(self.keep), len(self.up_vertices)), check_invariants=True
        )

    def up_matrix(self) -> torch.Tensor:
        """U as a sparse (V, n) matrix, rows sum to 1."""
        rows = torch.arange(len(self.up_vertices), device=self.keep.device).repeat_interleave(3)
        index = torch.stack([rows, self.up_vertices.flatten()])
        shape = (len(self.up_vertices), len(self.keep))
        return torch.sparse_coo_tensor(index, self.up_weights.flatten(), shape, check_invariants=True).coalesce()
