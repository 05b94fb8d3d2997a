"""What the network returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from handface.model.network.heads import BodyParameters


@dataclass(frozen=True)
class PartOutput:
    """One hand or head. Metres; camera axes x right, y down, z forward; per-level tuples are finest level first.

    keypoints: (B, K, 3).  vertices: levels of (B, V_l, 3), the head not yet deformed.  contact_logits: levels of (B, V_l).
    deformation: levels of (B, V_l, 3), to be SUBTRACTED from the vertices; () for the hand.
    A network prepared for inference gives only the finest level of contact and deformation.
    """

    keypoints: torch.Tensor
    vertices: tuple[torch.Tensor, ...]
    contact_logits: tuple[torch.Tensor, ...]
    deformation: tuple[torch.Tensor, ...]
    parameters: BodyParameters

    @property
    def contact(self) -> torch.Tensor:
        """Contact probability per vertex at full resolution, (B, V)."""
        return self.contact_logits[0].sigmoid()

    @property
    def deformed(self) -> torch.Tensor:
        """Vertices minus deformation at full resolution, (B, V, 3)."""
        return self.vertices[0] - self.deformation[0] if self.deformation else self.vertices[0]


@dataclass(frozen=True)
class DiceOutput:
    """Prediction for B crops.

    camera: (B, 3) s, tx, ty in pixels of the network's input, for points after `camera_origin` is subtracted.
    camera_origin: (B, 3) metres.  presence_logit: (B,), that hand and face touch at all.
    """

    hand: PartOutput
    head: PartOutput
    camera: torch.Tensor
    camera_origin: torch.Tensor
    presence_logit: torch.Tensor

    @property
    def presence(self) -> torch.Tensor:
        """Probability that hand and face touch, (B,)."""
        return self.presence_logit.sigmoid()

    def project(self, points: torch.Tensor) -> torch.Tensor:
        """Points of this prediction, (B, N, 3) metres -> pixels of the network's input, (B, N, 2)."""
        centred = points[..., :2] - self.camera_origin[:, None, :2]
        return self.camera[:, None, :1] * centred + self.camera[:, None, 1:]

    def flatten(self) -> dict[str, torch.Tensor]:
        """Every tensor under a flat name (`head_vertices_0`, `hand_betas` ...); the names of the exported networks."""
        flat = {"camera": self.camera, "camera_origin": self.camera_origin, "presence_logit": self.presence_logit}
        for name, part in (("hand", self.hand), ("head", self.head)):
            flat[f"{name}_keypoints"] = part.keypoints
            for kind in ("vertices", "contact_logits", "deformation"):
                flat |= {f"{name}_{kind}_{level}": value for level, value in enumerate(getattr(part, kind))}
            flat |= {f"{name}_{field}": value for field, value in part.parameters._asdict().items() if value.shape[1]}
        return flat

    @classmethod
    def unflatten(cls, flat: dict[str, torch.Tensor]) -> DiceOutput:
        """The inverse of `flatten`."""

        def levels(prefix: str) -> tuple[torch.Tensor, ...]:
            count = sum(name.startswith(prefix) for name in flat)
            return tuple(flat[f"{prefix}{level}"] for level in range(count))

        parts = {}
        for name in ("hand", "head"):
            batch = len(flat[f"{name}_betas"])
            absent = flat[f"{name}_betas"].new_zeros(batch, 0)
            parts[name] = PartOutput(
                keypoints=flat[f"{name}_keypoints"],
                vertices=levels(f"{name}_vertices_"),
                contact_logits=levels(f"{name}_contact_logits_"),
                deformation=levels(f"{name}_deformation_"),
                parameters=BodyParameters(*(flat.get(f"{name}_{field}", absent) for field in BodyParameters._fields)),
            )
        return cls(parts["hand"], parts["head"], flat["camera"], flat["camera_origin"], flat["presence_logit"])
