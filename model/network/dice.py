"""The network: one picture -> hand mesh, head mesh, contact, deformation, body parameters and camera (DICE, arXiv 2406.17988).

image -> backbone -> feature cells -> tokens [template xyz, features] -> MeshNet         -> coordinates
                                                                      -> InteractionNet  -> deformation, contact logit
tokens of coarse vertices -> up-sampling -> full meshes -> parameters;  coordinates -> camera;  cells -> presence
"""

from __future__ import annotations

import torch
from torch import nn

from handface.model.network.backbone import build_backbone, count_cells
from handface.model.network.config import DiceConfig, preset
from handface.model.network.heads import BodyParameters, CameraHead, CellCamera, PresenceHead
from handface.model.network.nearness import Nearness
from handface.model.network.output import DiceOutput, PartOutput
from handface.model.network.placement import PlacementHead, build_regressor
from handface.model.network.points import PointCells
from handface.model.network.topology import Topology
from handface.model.network.transformer import Blocks, InteractionNet, Tokens
from handface.model.network.upsampling import Upsampling

# contact logit of every vertex of a fresh network: 2 % touch
_FIRST_CONTACT = -4.0


class Dice(nn.Module):
    """The DICE network. Sizes come from `config.sizes`, rest geometry and up-sampling from `topology`.

    Without a topology the template is NaN until a checkpoint that carries it is loaded. Raises TopologyError if the
    topology does not fit the configuration.
    """

    template: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: DiceConfig, topology: Topology | None = None) -> None:
        super().__init__()
        if topology is not None:
            config.sizes.require(topology.sizes)
        self.config, sizes = config, config.sizes
        tokens = sizes.tokens
        self.backbone = build_backbone(config.backbone)
        features, cells = self.backbone.features, count_cells(self.backbone, config.input.size)
        self.picture_cells = cells
        self.point_cells = None
        if config.points is not None:
            self.point_cells = PointCells(features, config.input.size, config.points)
            cells += config.points.cells
        self.mix = nn.Linear(cells, tokens)
        self.mesh_net = Blocks(3 + features, tokens, config.mesh, config.dropout, config.norm_eps)
        self.interaction_net = None
        if config.interaction:
            self.interaction_net = InteractionNet(
                3 + features, config.interaction_in, tokens, config.interaction, config.dropout, config.norm_eps
            )
        hand, head = (None, None) if topology is None else (topology.hand, topology.head)
        self.hand_up = Upsampling(sizes.hand.vertices, config.upsampling, hand)
        self.head_up = Upsampling(sizes.head.vertices, config.upsampling, head)
        self.head_deformation_up = Upsampling(sizes.head.vertices, config.upsampling, head)
        self.hand_contact_up = Upsampling(sizes.hand.vertices, config.upsampling, hand)
        self.head_contact_up = Upsampling(sizes.head.vertices, config.upsampling, head)
        self.camera: CameraHead | CellCamera = CameraHead(tokens, config.camera)
        if config.camera.read == "cells":
            self.camera = CellCamera(features, cells, config.camera)
        self.presence = PresenceHead(features, cells, config.presence)
        self.placement = None
        if config.placement is not None:
            self.placement = PlacementHead(features, cells, sizes.groups, config.placement)
            self.mesh_net.zero_outputs(slice(0, 3))
        self.nearness = None
        if config.nearness is not None:
            self.nearness = Nearness(config.interaction_in, sizes.groups, config.nearness)
        self._start_untouched()
        self.hand_parameters = build_regressor("hand", sizes.hand, config.regressor, hand)
        self.head_parameters = build_regressor("head", sizes.head, config.regressor, head)
        rest = torch.full((tokens, 3), torch.nan)
        if topology is not None:
            rest = torch.from_numpy(topology.template(config.centre_template))
        self.register_buffer("template", rest)
        for name in ("mean", "std"):
            value = torch.tensor(getattr(config.input, name)).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def _start_untouched(self) -> None:
        """Begin with no deformation and hardly any contact, as most vertices are in most pictures.

        Random deformations of centimetres would tear the head apart: the first hundreds of steps would only mend that,
        and looking for collisions in such a mesh is ten times slower.
        """
        branch, first = (self.mesh_net, 3) if self.interaction_net is None else (self.interaction_net.blocks, 0)
        branch.zero_outputs(slice(first, first + 3))
        branch.bias_output(first + 3, _FIRST_CONTACT)

    @classmethod
    def from_preset(cls, name: str, topology: Topology) -> Dice:
        """A preset's network (`config.PRESETS`) for these bodies, with fresh weights."""
        return cls(preset(name, topology.sizes), topology)

    def forward(
        self, images: torch.Tensor, mask: torch.Tensor | None = None, points: torch.Tensor | None = None
    ) -> DiceOutput:
        """Predict.

        images: (B, 3, S, S) RGB, uint8 0..255 or floating 0..1; S = config.input.size.
        points: (B, 89, 3) the detector's face and hand points in pixels of `images`, and confidence; networks without
            `config.points` do not look at them.
        mask: (T,) or (B, T) bool, tokens to blank; None: drawn by `draw_mask` while training, no masking in eval mode.
        Raises ValueError for other shapes, and for one image in training mode (the regressors normalise over the batch).
        """
        self._check(images)
        if mask is None and self.training and self.config.mask_ratio > 0:
            mask = self.draw_mask()
        cells = self.backbone(self.normalize(images)).flatten(2).transpose(1, 2)  # (B, N, C)
        placing = cells
        if self.point_cells is not None:
            placing, cells = self.point_cells.join(points, cells)  # (B, N + n, C)
        masked = None if mask is None else mask[..., None]
        coordinates, interaction = self._branches(placing, cells, masked)
        presence = self.presence(cells)  # (B,)
        camera = self.camera(placing if self.config.camera.read == "cells" else coordinates)  # (B, 3)

        groups = list(self.config.sizes.groups)
        hand_keypoints, head_keypoints, hand_coarse, head_coarse = coordinates.split(groups, 1)
        _, _, hand_interaction, head_interaction = interaction.split(groups, 1)
        hand_vertices, head_vertices = self.hand_up(hand_coarse), self.head_up(head_coarse)
        deformation = self._gate(self.head_deformation_up(head_interaction[..., :3]), presence)
        hand_read, head_read = self.regressor_inputs(hand_vertices, head_vertices, self.config.regressor.detached)
        return DiceOutput(
            hand=PartOutput(
                hand_keypoints,
                hand_vertices,
                _last(self.hand_contact_up(hand_interaction[..., 3:])),
                (),
                self.hand_parameters(*hand_read),
            ),
            head=PartOutput(
                head_keypoints,
                head_vertices,
                _last(self.head_contact_up(head_interaction[..., 3:])),
                deformation,
                self.head_parameters(*head_read),
            ),
            camera=camera,
            camera_origin=self._origin(head_vertices[0]),
            presence_logit=presence,
        )

    def _tokens(self, cells: torch.Tensor, masked: torch.Tensor | None) -> Tokens:
        return Tokens(self.template, cells, self.mix.weight, self.mix.bias, masked, self.config.mask_value)

    def _branches(
        self, placing: torch.Tensor, cells: torch.Tensor, masked: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coordinates (B, T, 3) from what places the mesh; deformation and contact logit (B, T, 4)."""
        drawn = self.mesh_net(self._tokens(placing, masked))
        coordinates = drawn[..., :3]
        if self.placement is not None:
            coordinates = coordinates + self.placement(placing, self.template)
        if self.interaction_net is None:
            return coordinates, drawn[..., 3:]
        told = None if self.nearness is None else self.nearness(coordinates)
        return coordinates, self.interaction_net(self._tokens(cells, masked), told)

    def read_parameters(self, output: DiceOutput) -> tuple[BodyParameters, BodyParameters]:
        """Parameters of hand and head of a prediction, with a gradient into the vertices that they are read from.

        Where `regressor.detached` is off, those of the prediction itself; else they are read once more, to the same values.
        """
        if not self.config.regressor.detached:
            return output.hand.parameters, output.head.parameters
        hand, head = self.regressor_inputs(output.hand.vertices, output.head.vertices, detached=False)
        return self.hand_parameters(*hand), self.head_parameters(*head)

    def regressor_inputs(
        self, hand: tuple[torch.Tensor, ...], head: tuple[torch.Tensor, ...], detached: bool
    ) -> list[tuple[torch.Tensor, ...]]:
        """What the regressors of hand and head are given: vertices of a level, and for aligned ones the same at rest."""
        config = self.config.regressor
        vertices = hand[config.hand_level], head[config.head_level]
        if detached:
            vertices = vertices[0].detach(), vertices[1].detach()
        if not config.aligned:
            return [(part,) for part in vertices]
        return list(zip(vertices, self.template.split(list(self.config.sizes.groups))[2:], strict=True))

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """RGB (B, 3, S, S), uint8 or 0..1 -> what the backbone sees: channel order, mean and std of `config.input`."""
        if not images.is_floating_point():
            images = images.to(self.mean.dtype) / 255
        if self.config.input.channel_order == "bgr":
            images = images.flip(1)
        return (images - self.mean) / self.std

    def draw_mask(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """Masked vertex modelling: blank floor(u * mask_ratio * T) tokens, u ~ U(0, 1), the same for the whole batch. (T,) bool."""
        count = self.config.sizes.tokens
        device = self.template.device
        share = torch.rand((), generator=generator, device=device) * self.config.mask_ratio
        order = torch.rand(count, generator=generator, device=device).argsort().argsort()
        return order < (share * count).floor()

    def _check(self, images: torch.Tensor) -> None:
        size = self.config.input.size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(f"images have shape {tuple(images.shape)}, expected (B, 3, {size}, {size})")
        if self.training and self.config.regressor.norm == "batch" and len(images) < 2:
            raise ValueError("training needs at least 2 images per device: the regressors normalise over the batch")

    def _gate(self, levels: tuple[torch.Tensor, ...], presence: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """No deformation at full resolution without contact; only in eval mode and if the configuration says so."""
        if self.training or not self.config.presence_gate:
            return levels
        return (levels[0] * (presence > 0)[:, None, None], *levels[1:])

    def _origin(self, head: torch.Tensor) -> torch.Tensor:
        """What the camera takes for the origin, (B, 3)."""
        return head.mean(1) if self.config.camera.origin == "head_mean" else torch.zeros_like(head[:, 0])


def _last(levels: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Drop the last axis, of length 1."""
    return tuple(level[..., 0] for level in levels)
