"""The template the released weights were trained with: MANO and FLAME at rest, on the released selection of vertices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.bodies.names import MEDIAPIPE_FROM_POINTS
from handface.model.network.topology import PartSizes, PartTopology, Topology, rest_sha256
from handface.model.weights.unpickle import WeightsError

if TYPE_CHECKING:
    from handface.model.bodies import ParametricBody

TIP_VERTICES = (745, 317, 445, 556, 673)  # thumb, index, middle, ring, pinky, in METRO's joint regressor


def released_topology(hand: str, head: str, hand_transforms: Path, head_transforms: Path) -> Topology:
    """Rest geometry for the released weights.

    hand, head: imported MANO and FLAME (`handface bodies import`).  *_transforms: the release's two mesh transform files.
    Raises BodyFileError, WeightsError or TopologyError naming the file.
    """
    from handface.model.bodies import load_body

    convention = "decaf"
    hand_body, head_body = load_body(hand, convention), load_body(head, convention)
    rest = hand_body()
    points = torch.cat([rest.joints[0], rest.vertices[0, list(TIP_VERTICES)]])[list(MEDIAPIPE_FROM_POINTS)]
    hand_levels = _levels(hand_transforms, hand_body.num_vertices, 1)
    head_levels = _levels(head_transforms, head_body.num_vertices, 2)
    return Topology(
        _part(hand_body, points.double().numpy(), hand_levels, hand, convention),
        _part(head_body, head_body().keypoints[0].double().numpy(), head_levels, head, convention),
    )


def _part(
    body: ParametricBody, keypoints: NDArray[np.float64], down: list[torch.Tensor], name: str, convention: str
) -> PartTopology:
    rest = body().vertices[0].double().numpy(force=True)
    keep = _selected(down, name)
    sizes = PartSizes(
        vertices=(body.num_vertices, *(len(step) for step in down)),
        keypoints=len(keypoints),
        betas=body.arrays.num_betas,
        pose=body.num_pose,
        expression=body.arrays.num_expressions,
        body=name,
        convention=convention,
        keep=keep,
        rest_sha256=rest_sha256(body),
    )
    return PartTopology(sizes, keypoints, rest[list(keep[-1])], rest=rest)


def _selected(down: list[torch.Tensor], name: str) -> tuple[tuple[int, ...], ...]:
    """Vertices of the full mesh that each level keeps: the sampler selects, every row of D has a single 1."""
    index = torch.arange(down[0].shape[1])
    kept = []
    for step in down:
        chosen = step.argmax(1)
        if not torch.equal(step, torch.nn.functional.one_hot(chosen, step.shape[1]).to(step)):
            raise WeightsError(f"the mesh transforms of {name} mix vertices where the release selects them")
        index = index[chosen]
        kept.append(tuple(index.tolist()))
    return tuple(kept)


def _levels(file: Path, vertices: int, count: int) -> list[torch.Tensor]:
    """The down-sampling matrices D of a mesh transform file, dense float64, checked to fit the body."""
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{file}: no such file") from None
    except Exception as error:  # torch raises many types for a damaged file
        raise WeightsError(f"{file}: not a mesh transform file ({type(error).__name__}); copy it again") from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("D"), list | tuple) or len(loaded["D"]) < count:
        raise WeightsError(f"{file}: expected a dictionary whose 'D' lists at least {count} down-sampling matrices")
    matrices = []
    for index, matrix in enumerate(loaded["D"][:count]):
        if not isinstance(matrix, torch.Tensor) or matrix.ndim != 2 or matrix.shape[1] != vertices:
            raise WeightsError(f"{file}: D[{index}] does not take the {vertices} vertices of the level above it")
        matrices.append((matrix.to_dense() if matrix.is_sparse else matrix).double())
        vertices = matrix.shape[0]
    return matrices
