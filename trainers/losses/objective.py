"""The objective: prediction and truth in, weighted scalars by name out, each the mean over all ranks' samples that have it.

    objective = Objective(bodies, LossConfig())
    truth, posed = make_targets(batch, bodies), pose_output(output, bodies)
    terms = objective(output, posed, truth)
    loss = sum(terms.values())

Every term is W * sum over this rank's samples / mean over ranks of the number of samples that count. DDP averages gradients over
ranks, so that they are those of one process with all samples, however unevenly labels are spread: give `reduce_counts` a function
that all-reduces to the mean. It is called once per batch with a vector. Without it, every rank normalises by its own counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import nn

from handface.model.network.output import DiceOutput
from handface.trainers.bodies import Bodies
from handface.trainers.geometry import closed_faces, front_depth, vertex_faces
from handface.trainers.losses import collision as collide
from handface.trainers.losses import deformation as deform
from handface.trainers.losses.config import LossConfig
from handface.trainers.losses.contact import contact, presence
from handface.trainers.losses.depth import depth_term
from handface.trainers.losses.keypoints import RELEASED_HAND_ORDER, drawn_keypoints, keypoints_2d, plain_keypoints_2d
from handface.trainers.losses.parameters import parameters
from handface.trainers.losses.reduce import Term, l1
from handface.trainers.losses.touch import squared_touch, touch
from handface.trainers.losses.vertices import drawn_vertices, parametric_vertices
from handface.trainers.targets import PartTargets, PosedPart, PosedTargets, Targets, widen

ReduceCounts = Callable[[tuple[str, ...], torch.Tensor], torch.Tensor]
_PER_SQUARE = 1e3  # 1,000 square millimetres in a square metre


class Objective(nn.Module):
    """All losses of one network. Its buffers are constants of the bodies. Raises ValueError for options the bodies cannot serve."""

    closed: torch.Tensor
    faces: torch.Tensor
    at_vertex: torch.Tensor
    both_faces: torch.Tensor
    stiffness: torch.Tensor | None

    def __init__(self, bodies: Bodies, config: LossConfig = LossConfig()) -> None:
        super().__init__()
        self.config = config.resolved()
        hand, head = bodies.hand.arrays, bodies.head.arrays
        faces = torch.from_numpy(head.faces.astype("int64"))
        hand_faces = torch.from_numpy(hand.faces.astype("int64"))
        weights = None
        if self.config.stiffness:
            if not isinstance(bodies.head.stiffness, torch.Tensor):
                raise ValueError("the deformation is to be weighed by stiffness, but the head's file has no stiffness")
            weights = deform.stiffness_weights(bodies.head.stiffness)
        for name, value in (
            ("closed", torch.from_numpy(closed_faces(head))),
            ("faces", faces),
            ("at_vertex", torch.from_numpy(vertex_faces(faces.numpy(), bodies.head.num_vertices))),
            ("both_faces", torch.cat([hand_faces, faces + bodies.hand.num_vertices])),
            ("stiffness", weights),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        output: DiceOutput,
        posed: PosedTargets,
        truth: Targets,
        reduce_counts: ReduceCounts | None = None,
        step: int | None = None,
    ) -> dict[str, torch.Tensor]:
        """{term: weighted scalar}; the loss is their sum. A term whose label no sample has is 0, with a gradient of 0.

        reduce_counts: names of T terms and (T,) numbers of samples -> the numbers to divide by, such as their means over ranks.
        step: terms that `starts` has begin later are 0; None: all have begun. The terms are the same on every rank and in every step.
        """
        with torch.autocast(posed.camera.device.type, enabled=False):
            starts = vars(self.config.starts)
            later = {name for name, start in starts.items() if step is not None and step < start}
            weighted = self._terms(widen(output), posed, self._shifted(truth), later)
            counts = torch.stack([term.count for _, term in weighted.values()])
            if reduce_counts is not None:
                counts = reduce_counts(tuple(weighted), counts)
            shares = 1 / torch.where(counts > 0, counts, 1.0)
            return {
                name: weight * share * term.total
                for (name, (weight, term)), share in zip(weighted.items(), shares.unbind(), strict=True)
            }

    def _terms(
        self, output: DiceOutput, posed: PosedTargets, truth: Targets, later: Collection[str] = ()
    ) -> dict[str, tuple[float, Term]]:
        """{name: (W, its losses per sample)} of all terms with a weight; those that begin later are 0."""
        weights, mesh = self.config.weights, truth.has_mesh
        everyone = torch.ones_like(mesh)
        zero = Term(torch.zeros_like(output.camera[:, 0]), ~everyone)
        terms: dict[str, tuple[float, Term]] = {}
        if weights.vertices:
            terms |= {name: (weights.vertices, Term(v, mesh)) for name, v in _vertices(posed, truth).items()}
        if weights.keypoints_3d:
            terms |= {name: (weights.keypoints_3d, Term(v, mesh)) for name, v in self._space(posed, truth).items()}
        if weights.keypoints_2d:
            terms |= {name: (weights.keypoints_2d, term) for name, term in self._picture(posed, truth).items()}
        if weights.parameters:
            terms["parameters"] = weights.parameters, Term(_parameters(output, posed, truth), mesh)
        if weights.contact:
            levels = output.hand.contact_logits, output.head.contact_logits, truth.hand.contact, truth.head.contact
            terms["contact"] = (
                weights.contact,
                Term(contact(*levels, self.config.contact, self.config.paper_released), truth.has_contact),
            )
        if weights.presence:
            value = presence(output.presence_logit, truth.presence)
            terms["presence"] = weights.presence, Term(value, truth.has_contact)
        field, label = output.head.deformation[0], truth.deformation[0]
        if weights.deformation:
            value = deform.deformation(field, label, weights.deformation_large, self.stiffness)
            terms["deformation"] = weights.deformation, Term(value, truth.has_deformation)
        if weights.deformation_wild:
            value = deform.no_deformation(field)
            terms["deformation_wild"] = weights.deformation_wild, Term(value, ~truth.has_deformation)
        if weights.touch:
            terms["touch"] = weights.touch, zero if "touch" in later else self._touch(output, posed)
        if weights.collision:
            term = zero if "collision" in later else Term(self._collision(output, posed), everyone)
            terms["collision"] = weights.collision, term
        if weights.depth:
            terms["depth"] = weights.depth, zero if "depth" in later else self._depth(posed, truth)
        return terms

    def _space(self, posed: PosedTargets, truth: Targets) -> dict[str, torch.Tensor]:
        """3D keypoints."""
        hand, head = truth.hand.keypoints, truth.head.keypoints
        read_off = hand[:, list(RELEASED_HAND_ORDER)] if self.config.faults.joint_orders else hand
        drawn = drawn_keypoints(posed.hand.np_keypoints, posed.hand.np_regressed, hand, read_off)
        drawn = drawn + drawn_keypoints(posed.head.np_keypoints, posed.head.np_regressed, head, head)
        return {
            "keypoints_3d": drawn,
            "keypoints_3d_parametric": l1(posed.hand.keypoints, hand) + l1(posed.head.keypoints, head),
        }

    def _picture(self, posed: PosedTargets, truth: Targets) -> dict[str, Term]:
        """2D keypoints: NP 4 (direct + regressed) of the hand and once of the head; P 4 times the hand and once the head."""
        compare = plain_keypoints_2d if self.config.faults.confidence_ignored else keypoints_2d
        size, terms = truth.image_size, {}

        def pair(name: str, part: PosedPart, labels: torch.Tensor, read_off: torch.Tensor, factor: float) -> None:
            known = (labels[..., 2] > 0).any(1)
            drawn = compare(part.np_keypoints_pixels, labels, size) + compare(part.np_regressed_pixels, read_off, size)
            terms[f"keypoints_2d_{name}"] = Term(factor * drawn, known)
            parametric = compare(part.keypoints_pixels, labels, size)
            terms[f"keypoints_2d_{name}_parametric"] = Term(factor * parametric, known)

        hand, face = truth.hand_keypoints_2d, truth.face_keypoints_2d
        pair(
            "hand", posed.hand, hand, hand[:, list(RELEASED_HAND_ORDER)] if self.config.faults.joint_orders else hand, 4
        )
        pair("head", posed.head, face, face, 1)
        return terms

    def _touch(self, output: DiceOutput, posed: PosedTargets) -> Term:
        hand, head = self._meshes(posed)
        if self.config.touch_head == "deformed":
            head = head - output.head.deformation[0].detach()
        touching = output.hand.contact_logits[0] > 0, output.head.contact_logits[0] > 0
        if self.config.distances == "millimetres":
            return touch(hand, head, *touching)
        term = squared_touch(hand, head, *touching, over_batch=self.config.paper_released)
        return Term(_PER_SQUARE * term.values, term.mask)

    def _collision(self, output: DiceOutput, posed: PosedTargets) -> torch.Tensor:
        hand, head = self._meshes(posed)
        deformed = head - output.head.deformation[0]
        if self.config.faults.collision_index:
            return _PER_SQUARE * collide.released_collision(hand, deformed, self.closed)
        if self.config.distances == "squared":
            return _PER_SQUARE * collide.squared_collision(hand, deformed, self.closed)
        return collide.collision(hand, deformed, self.closed, self.faces, self.at_vertex)

    def _meshes(self, posed: PosedTargets) -> tuple[torch.Tensor, torch.Tensor]:
        """Hand and undeformed head that the losses between them act on."""
        if self.config.of == "drawn":
            return posed.hand.np_vertices[0], posed.head.np_vertices[0]
        return posed.hand.vertices, posed.head.vertices

    def _depth(self, posed: PosedTargets, truth: Targets) -> Term:
        depth, faults = self.config.depth, self.config.faults
        reference, valid = truth.depth.unbind(-1)
        if faults.depth_corner:
            reference = torch.ones_like(reference)
        use = (valid > 0) & (truth.visibility > 0)
        asked = (truth.depth_kind >= 0) & use.any(1)
        if depth.samples == "wild":
            asked = asked & ~truth.has_mesh
        rows = _rows(asked)
        z, seen = self._predicted_depth(posed, rows)
        reference, kind, use = reference[rows], truth.depth_kind[rows], use[rows] & seen
        term = depth_term(z, reference, kind, use, depth, pooled=self.config.paper_released)
        return Term(term.values, term.mask & asked[rows])

    def _predicted_depth(self, posed: PosedTargets, rows: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """z at the 89 keypoints, face then hand, (b, 89) metres, and where there is one. rows: samples that are asked for."""
        head, hand = posed.head, posed.hand
        if self.config.of == "drawn":
            points = torch.cat([head.np_regressed[rows], hand.np_regressed[rows]], 1)
        else:
            points = torch.cat([head.keypoints[rows], hand.keypoints[rows]], 1)
        if self.config.depth.at == "keypoint":
            return points[..., 2], torch.ones_like(points[..., 2], dtype=torch.bool)
        place = points[..., :2]
        if self.config.faults.depth_transposed:  # pixel (v, u) instead of (u, v), back in metres
            scale, shift = posed.camera[rows, None, :1].clamp(min=1e-6), posed.camera[rows, None, 1:]
            place = place.flip(-1) + (shift.flip(-1) - shift) / scale
        hand_vertices, head_vertices = self._meshes(posed)
        return front_depth(place, torch.cat([hand_vertices[rows], head_vertices[rows]], 1), self.both_faces)

    def _shifted(self, truth: Targets) -> Targets:
        """Truth about the deformed head's mean, if that fault is wanted: all points move by the mean deformation."""
        if not self.config.faults.centring:
            return truth
        moved = truth.deformation[0].mean(1, keepdim=True)

        def shift(part: PartTargets) -> PartTargets:
            return replace(
                part, vertices=tuple(level + moved for level in part.vertices), keypoints=part.keypoints + moved
            )

        return replace(truth, hand=shift(truth.hand), head=shift(truth.head))


def _rows(mask: torch.Tensor) -> torch.Tensor | slice:
    """The marked samples on the CPU; all of them on an accelerator, which need not wait for the host then."""
    return mask.nonzero()[:, 0] if mask.device.type == "cpu" else slice(None)


def _vertices(posed: PosedTargets, truth: Targets) -> dict[str, torch.Tensor]:
    hand, head = truth.hand.vertices, truth.head.vertices
    return {
        "vertices": drawn_vertices(posed.hand.np_vertices, posed.head.np_vertices, hand, head),
        "vertices_parametric": parametric_vertices(posed.hand.vertices, posed.head.vertices, hand[0], head[0]),
    }


def _parameters(output: DiceOutput, posed: PosedTargets, truth: Targets) -> torch.Tensor:
    hand, head = output.hand.parameters, output.head.parameters
    return parameters(
        [
            (hand.betas, truth.hand.betas),
            (posed.hand.pose, truth.hand.pose),
            (head.betas, truth.head.betas),
            (head.expression, truth.head.expression),
            (posed.head.pose, truth.head.pose),
        ]
    )
