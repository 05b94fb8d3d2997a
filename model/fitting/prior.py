"""What is known before the picture is looked at: people in general, and what the network guessed of this one."""

from __future__ import annotations

import torch

from handface.model.bodies.body import ParametricBody
from handface.model.fitting.config import Spread
from handface.model.fitting.energy import Prior
from handface.model.fitting.keypoint_body import FitParameters

_BEND_MEAN, _BEND_RANGE = 0.35, (-0.5, 1.9)  # radians about the flexion axis
_THUMB = "thumb"


class Population:
    """What is known of one body before anybody is seen: made once per body."""

    def __init__(self, body: ParametricBody, spread: Spread) -> None:
        mean, precision, *bounds = (value.to(body.template) for value in _population(body, spread))
        self.precision, self.pull = precision, precision @ mean
        self.rows, self.low, self.high = bounds
        self.kept, self.trusted = (value.to(body.template) for value in _from_guess(body, spread))

    def with_guess(self, part: FitParameters, trust: torch.Tensor) -> Prior:
        """The prior of B bodies that a network guessed. trust: (B,), see `Guess`. Places and orientations are left free."""
        guessed = torch.cat(
            [part.shape, part.pose, torch.zeros_like(part.global_orient), torch.zeros_like(part.transl)], 1
        )
        trusted = self.trusted * (self.kept + (1 - self.kept) * trust[:, None])
        together = self.precision + torch.diag_embed(trusted)
        free = torch.diag_embed((together.diagonal(dim1=1, dim2=2) == 0).to(trusted))
        mean = torch.linalg.solve(together + free, self.pull + trusted * guessed)
        return Prior(mean, together, self.rows, self.low, self.high)


def _population(body: ParametricBody, spread: Spread) -> tuple[torch.Tensor, ...]:
    """Mean (P,), precision (P, P), and rows (R, P), low (R,), high (R,) of bounds for one body's packed variables."""
    arrays = body.arrays
    betas, expressions, pose = arrays.num_betas, arrays.num_expressions, body.num_pose
    size, first = betas + expressions + pose + 6, betas + expressions
    mean, precision = torch.zeros(size), torch.zeros(size, size)
    rows, low, high = [], [], []
    precision.diagonal()[:betas] = spread.betas**-2
    shares = bool(arrays.expression_names)
    precision.diagonal()[betas:first] = (spread.unit_expression if shares else spread.expression) ** -2
    if shares:
        rows.append(torch.eye(size)[betas:first])
        low.append(torch.zeros(expressions))
        high.append(torch.ones(expressions))
    if len(body.pose_components):
        precision.diagonal()[first : first + pose] = 1.0
    elif arrays.kind == "head":
        precision.diagonal()[first : first + pose] = spread.head_pose**-2
    else:
        axes, names = _flexion(body)
        for k, (axis, name) in enumerate(zip(axes, names, strict=True)):
            at = slice(first + 3 * k, first + 3 * k + 3)
            splay = spread.splay * (2 if _THUMB in name else 1)
            along = torch.outer(axis, axis)
            precision[at, at] = splay**-2 * (torch.eye(3) - along) + spread.bend**-2 * along
            mean[at] = _BEND_MEAN * axis
            row = torch.zeros(1, size)
            row[0, at] = axis
            rows.append(row)
            low.append(torch.full((1,), _BEND_RANGE[0]))
            high.append(torch.full((1,), _BEND_RANGE[1]))
    if not rows:
        return mean, precision, torch.zeros(0, size), torch.zeros(0), torch.zeros(0)
    return mean, precision, torch.cat(rows), torch.cat(low), torch.cat(high)


def _flexion(body: ParametricBody) -> tuple[torch.Tensor, list[str]]:
    """The unit axis (M, 3) about which each posed joint bends, and the joints' names."""
    arrays = body.arrays
    given = arrays.flexion_axes
    axes = _axes_by_geometry(body) if given is None else torch.from_numpy(given).float()
    axes = axes[[joint - 1 for joint in body.pose_joints]]
    return axes / axes.norm(dim=1, keepdim=True).clamp(min=1e-9), [arrays.joint_names[j] for j in body.pose_joints]


def _axes_by_geometry(body: ParametricBody) -> torch.Tensor:
    """Flexion axes of a right hand's file without any: across the finger, from little finger to index, in the plane of the knuckles."""
    joints = torch.from_numpy(body.arrays.joint_template).float()
    names = list(body.arrays.joint_names)
    across = joints[names.index("index1")] - joints[names.index("pinky1")]
    axes = []
    for joint in range(1, len(joints)):
        child = next((k for k, parent in enumerate(body.parents) if parent == joint), None)
        bone = joints[child] - joints[joint] if child is not None else joints[joint] - joints[body.parents[joint]]
        axes.append(across - (across @ bone) / (bone @ bone) * bone)
    return torch.stack(axes)


def _from_guess(body: ParametricBody, spread: Spread) -> tuple[torch.Tensor, torch.Tensor]:
    """Which variables (P,) keep their full trust whatever the picture says (the shape's), and the guess's precision (P,)."""
    betas, expressions = body.arrays.num_betas, body.arrays.num_expressions
    pose = spread.guess_pose if body.arrays.kind == "hand" else spread.guess_head_pose
    widths = (betas, expressions, body.num_pose, 6)
    kept = torch.cat([torch.full((n,), value) for n, value in zip(widths, (1.0, 0.0, 0.0, 0.0), strict=True)])
    precision = (spread.guess_betas**-2, spread.guess_expression**-2, pose**-2, 0.0)
    return kept, torch.cat([torch.full((n,), value) for n, value in zip(widths, precision, strict=True)])
