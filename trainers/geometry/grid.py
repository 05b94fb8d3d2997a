"""Which triangles may lie over which points: a grid over x and y, for devices where sizes cost nothing to know."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

_CELLS = 40  # per axis


@torch.no_grad()
def candidates(
    points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor, use: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of a point and a triangle whose box reaches into the point's cell: every pair that meets in the xy plane, and few others.

    The grid covers what points and mesh have in common, and a triangle with no point below its box is left out before anything
    else is done for it, so that the cost follows the points (a hand at one cheek, 89 keypoints), not the size of the mesh.

    Args:
        points: (B, N, 2 or 3).
        vertices: (B, V, 3).
        faces: (F, 3).
        use: (B, N) bool, points that are looked at; None: all.

    Returns:
        For each of P pairs: the row of points (B N), the sample, and the row of faces, (P,) each.
    """
    batch, count = points.shape[:2]
    x, y = points[..., 0].T, points[..., 1].T  # (N, B): rows of all samples, which are gathered as one piece of memory
    columns, left, right = vertices[..., 0].T, vertices[..., 0].amin(1), vertices[..., 0].amax(1)
    lines, top, bottom = vertices[..., 1].T, vertices[..., 1].amin(1), vertices[..., 1].amax(1)
    within = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    if use is not None:
        within &= use.T
    x_range, y_range = _range(x, within), _range(y, within)
    row, sample = within.nonzero().unbind(1)
    column, line = _cell(x, *x_range)[row, sample].long(), _cell(y, *y_range)[row, sample].long()
    cell = (sample * _CELLS + line) * _CELLS + column
    held = torch.bincount(cell, minlength=batch * _CELLS * _CELLS)
    starts = held.cumsum(0) - held
    ordered = (sample * count + row)[cell.argsort()]

    face, sample, x0, x1, y0, y1 = _boxes(
        _cell(columns, *x_range).contiguous(),
        _cell(lines, *y_range).contiguous(),
        faces,
        held.view(batch, _CELLS, _CELLS),
    )
    width = x1 - x0 + 1
    box, place = _expand(width * (y1 - y0 + 1))
    step = torch.div(place, width[box], rounding_mode="floor")  # int32: twice as fast
    below = (sample[box] * _CELLS + y0[box] + step) * _CELLS + x0[box] + place - step * width[box]
    pair, place = _expand(held[below])
    point = ordered[starts[below[pair]] + place]
    box = box[pair]
    return point, sample[box], face[box]


def _range(values: torch.Tensor, use: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and largest used value of each sample, (N, B) -> (B,) twice; inf and -inf where none is."""
    return torch.where(use, values, torch.inf).amin(0), torch.where(use, values, -torch.inf).amax(0)


def _cell(position: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """The cell of each position on one axis, int16; -1 and _CELLS stand for everything outside of low to high."""
    size = ((high - low) / _CELLS).clamp(min=torch.finfo(position.dtype).tiny)
    inner = ((position - low) / size).floor().clamp(-1, _CELLS - 1)
    return torch.where(position > high, _CELLS, inner).to(torch.int16)


def _boxes(
    columns: torch.Tensor, lines: torch.Tensor, faces: torch.Tensor, held: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Triangles with points below their boxes: face, sample, first and last column, first and last line, (T,) each.

    columns, lines: (V, B) cells of the vertices.  held: (B, lines, columns) points.
    """
    (x0, x1), (y0, y1) = _span(columns, faces), _span(lines, faces)  # (F, B) each
    face, sample = ((x1 >= 0) & (x0 < _CELLS) & (y1 >= 0) & (y0 < _CELLS)).nonzero().unbind(1)
    row = face * x0.shape[1] + sample
    x0, x1, y0, y1 = (value.flatten()[row].int().clamp(0, _CELLS - 1) for value in (x0, x1, y0, y1))
    total = pad(held.cumsum(1).cumsum(2), (1, 0, 1, 0)).int().flatten()  # points left of and above each corner
    side = _CELLS + 1
    above, under = (sample * side + y0) * side, (sample * side + y1 + 1) * side
    some = total[under + x1 + 1] - total[above + x1 + 1] - total[under + x0] + total[above + x0] > 0
    return tuple(value[some] for value in (face, sample, x0, x1, y0, y1))


def _span(cells: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the last cell of each triangle on one axis. (V, B) and (F, 3) -> (F, B) twice."""
    a, b, c = (cells.index_select(0, corner) for corner in faces.unbind(1))
    return torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)


def _expand(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each index repeated `counts` times, and 0, 1, 2 ... within every run."""
    index = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    starts = (counts.cumsum(0) - counts).to(counts.dtype)
    return index, torch.arange(len(index), device=counts.device, dtype=counts.dtype) - starts[index]
