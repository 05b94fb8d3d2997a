"""Configuration of the network: frozen dataclasses, the presets, JSON in and out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from handface.model.network.topology import PartSizes, Sizes
from handface.suggest import suggest


@dataclass(frozen=True)
class StageConfig:
    """One multi-resolution stage of HRNet: `modules` repeats of `blocks` residual blocks in every branch."""

    modules: int
    blocks: int
    channels: tuple[int, ...]


@dataclass(frozen=True)
class HRNetConfig:
    """HRNet classification net without its classifier. The defaults are HRNet-W64."""

    kind: Literal["hrnet"] = "hrnet"
    stem: int = 64
    stage1_blocks: int = 4
    stage1_planes: int = 64
    stages: tuple[StageConfig, ...] = (
        StageConfig(1, 4, (64, 128)),
        StageConfig(4, 4, (64, 128, 256)),
        StageConfig(3, 4, (64, 128, 256, 512)),
    )
    head_planes: tuple[int, ...] = (32, 64, 128, 256)
    features: int = 2048


@dataclass(frozen=True)
class MobileNetConfig:
    """MobileNetV2, made for ImageNet weights (`handface weights new`)."""

    kind: Literal["mobilenet"] = "mobilenet"
    features: int = 256
    """Channels of the feature cells, by a 1x1 convolution after the network."""
    frozen: bool = True
    """Leave the ImageNet layers as they are: half the time of a step, and features of photographs stay features of photographs."""


@dataclass(frozen=True)
class PointsConfig:
    """The detector's 68 + 21 points as further feature cells. Not in the paper.

    Points look the same on drawings and photographs, so that what is learned from them on synthetic scenes holds on photos.
    """

    cells: int = 4
    """Feature cells made of the points."""
    hidden: int = 512
    """Width of the two layers between."""
    drop: float = 0.1
    """While training: share of samples whose points are all withheld, and again of those that lose the face's or the hand's."""
    jitter: float = 0.015
    """While training: how far a hand's points are off on average, each and all together; in half sides of the crop."""
    face: float = 0.4
    """The same of a face's points, as a share of the hand's."""
    lead: bool = True
    """Where there are points of face and hand, mesh and camera are read from them alone: pictures of training scenes are drawn, and what is
    learned from them about places holds less well on photographs. Contact, deformation and presence see both."""


@dataclass(frozen=True)
class AutoConfig:
    """A backbone of the transformers library: its last feature map."""

    name: str
    """Model type (`convnext`, `dinov2`, `resnet`, `swin` ...), or a local folder with config and weights."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of that model's configuration."""
    kind: Literal["auto"] = "auto"


@dataclass(frozen=True)
class BlockConfig:
    """One transformer block: project in -> width, encode, project width -> out with a linear shortcut."""

    width: int
    out: int
    layers: int = 4
    heads: int = 4
    hidden: int = 3072

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"block width {self.width} is not divisible by {self.heads} heads")


@dataclass(frozen=True)
class InputConfig:
    """How an RGB picture becomes the network's input."""

    size: int = 224
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """`bgr`: channels are swapped first; `mean` and `std` then apply by position (the released weights want this)."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class CameraConfig:
    """Weak perspective from raw numbers c: s = scale |c0|, t = shift (c1, c2) + offset; u = s X + t, pixels of the crop."""

    scale: float = 10.0
    shift: float = 1.0
    offset: float = 0.0
    hidden: int = 250
    start: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Added to the initial bias of the last layer, so that training starts with the mesh inside the picture."""
    read: Literal["coordinates", "cells"] = "coordinates"
    """From the drawn coordinates, as released, or from the feature cells, which know the picture. Not in the paper."""
    origin: Literal["head_mean", "world"] = "head_mean"
    """`head_mean`: points are centred on the mean predicted head vertex before they are projected."""


@dataclass(frozen=True)
class UpsamplingConfig:
    """From coarse to fine vertices, learned."""

    kind: Literal["dense", "mesh"] = "dense"
    """`dense`: one weight per pair of vertices, as released. `mesh`: the body's barycentric weights plus a low-rank correction."""
    rank: int = 32


@dataclass(frozen=True)
class RegressorConfig:
    """Vertices -> body parameters."""

    hidden: int = 1024
    hand_level: int = 0
    """Mesh level it reads, 0 the finest."""
    head_level: int = 1
    detached: bool = False
    """No gradient from the parameters into the vertices they are read from. Small networks from scratch learn vertices faster so."""
    norm: Literal["batch", "layer"] = "batch"
    """As released, or per sample, which does not depend on the batch."""
    aligned: bool = False
    """Take rotations from the coarsest vertices by least squares and read the rest from the mesh in its own axes. Not in the paper."""


HAND_AT_FACE = (-0.60, -1.29, 0.90)
"""Mean rotation of right hands at faces, axis-angle in camera axes."""
FACING = (3.1415927, 0.0, 0.0)
"""A head that looks into the camera: bodies have y up, cameras y down."""


@dataclass(frozen=True)
class PlacementConfig:
    """Rest meshes are first placed by an affine map per part, read from the feature cells; tokens predict the rest.

    Not in the paper. Attention learns to turn a template only slowly; this says it in twelve numbers per part.
    """

    narrowed: int = 64
    """Features per cell that it reads."""
    hidden: int = 256
    hand_orient: tuple[float, float, float] = HAND_AT_FACE
    hand_centre: tuple[float, float, float] = (-0.01, 0.03, -0.06)
    """Where the hand is at first: metres from the head's centre."""
    head_orient: tuple[float, float, float] = FACING
    bends: bool = False
    """Also move every token of the template by itself before it is placed: fingers, jaw and shape, linear in the hidden units."""


@dataclass(frozen=True)
class NearnessConfig:
    """InteractionNet is also told where the drawn tokens are and how far the other part lies from each. Not in the paper.

    With the template alone it has to find out again where hand and head are, which a small network does not.
    """

    hidden: int = 64
    reach: float = 0.005
    """Metres by which the softly nearest vertex is spread."""


@dataclass(frozen=True)
class DiceConfig:
    """The whole network. `sizes` come from the body models (`Topology.sizes`)."""

    sizes: Sizes
    backbone: HRNetConfig | MobileNetConfig | AutoConfig = HRNetConfig()
    mesh: tuple[BlockConfig, ...] = (BlockConfig(1024, 512), BlockConfig(256, 128), BlockConfig(128, 3))
    interaction_in: int = 512
    interaction: tuple[BlockConfig, ...] = (BlockConfig(256, 128), BlockConfig(64, 4))
    """Empty: one branch for everything, the mesh branch ends in 3 coordinates, 3 deformations and 1 contact (the paper's ablation)."""
    presence: tuple[int, ...] = (512, 64)
    input: InputConfig = InputConfig()
    camera: CameraConfig = CameraConfig()
    upsampling: UpsamplingConfig = UpsamplingConfig()
    regressor: RegressorConfig = RegressorConfig()
    placement: PlacementConfig | None = None
    points: PointsConfig | None = None
    nearness: NearnessConfig | None = None
    dropout: float = 0.1
    norm_eps: float = 1e-12
    centre_template: bool = True
    """Each part's template about the mean of its own coarse vertices."""
    mask_ratio: float = 0.3
    """Masked vertex modelling while training: up to this share of tokens is replaced by `mask_value`. Never in eval mode."""
    mask_value: float = 0.01
    presence_gate: bool = True
    """In eval mode, no deformation at full resolution where the presence of contact is <= 0.5."""
    released: bool = False
    """Weights of the release: keypoints are the posed bodies', for the order of its keypoint tokens is not ours, and the neck yields to
    no hand, as in its own evaluation."""
    preset: str = "custom"

    def __post_init__(self) -> None:
        mesh_out = 3 if self.interaction else 7
        if self.mesh[-1].out != mesh_out:
            raise ValueError(f"the mesh branch must end in {mesh_out} channels, not {self.mesh[-1].out}")
        if self.interaction and self.interaction[-1].out != 4:
            raise ValueError(f"the interaction branch must end in 3 + 1 channels, not {self.interaction[-1].out}")
        if self.nearness is not None and not self.interaction:
            raise ValueError("nearness is told to the interaction branch, and there is none")
        if self.upsampling.kind == "mesh" and self.upsampling.rank < 1:
            raise ValueError(f"upsampling rank is {self.upsampling.rank}; at least 1")

    def with_one_branch(self) -> DiceConfig:
        """The same network with coordinates, deformation and contact from one transformer."""
        return replace(self, mesh=(*self.mesh[:-1], replace(self.mesh[-1], out=7)), interaction=(), nearness=None)

    def to_json(self) -> str:
        """As JSON text."""
        from pydantic import TypeAdapter

        return str(TypeAdapter(DiceConfig).dump_json(self, indent=1), "utf-8")

    @classmethod
    def from_json(cls, text: str | bytes) -> DiceConfig:
        """From JSON text. Raises ValueError (pydantic's) that names the field."""
        from pydantic import TypeAdapter

        return TypeAdapter(DiceConfig).validate_json(text)


RELEASED_SIZES = Sizes(
    hand=PartSizes((778, 195), keypoints=21, betas=10, pose=45, body="MANO"),
    head=PartSizes((5023, 1675, 559), keypoints=68, betas=100, pose=6, expression=50, body="FLAME"),
)
"""MANO and FLAME as the released weights know them."""

HRNET_W18_SMALL = HRNetConfig(
    stage1_blocks=2,
    stages=(StageConfig(1, 2, (18, 36)), StageConfig(3, 2, (18, 36, 72)), StageConfig(2, 2, (18, 36, 72, 144))),
)
"""HRNet-W18-small-v2."""

_W64 = DiceConfig(sizes=RELEASED_SIZES, input=InputConfig(channel_order="bgr"), preset="dice-w64")
_S = DiceConfig(
    sizes=RELEASED_SIZES,
    backbone=HRNET_W18_SMALL,
    mesh=(BlockConfig(256, 128, 3, 4, 1024), BlockConfig(128, 64, 3, 4, 512), BlockConfig(64, 3, 3, 4, 256)),
    interaction_in=256,
    interaction=(BlockConfig(128, 64, 3, 4, 512), BlockConfig(64, 4, 3, 4, 256)),
    camera=CameraConfig(scale=700.0, shift=112.0, offset=112.0, start=(1.0, 0.0, 0.0)),
    upsampling=UpsamplingConfig("mesh", rank=32),
    regressor=RegressorConfig(hidden=768, hand_level=1, head_level=2, detached=True, norm="layer", aligned=True),
    placement=PlacementConfig(),
    dropout=0.0,  # masked modelling regularises already, and attention without dropout need not write its T x T matrix
    norm_eps=1e-6,
    preset="dice-s",
)
HRNET_NANO = HRNetConfig(
    stem=16,
    stage1_blocks=1,
    stage1_planes=16,
    stages=(StageConfig(1, 1, (8, 16)), StageConfig(1, 1, (8, 16, 32)), StageConfig(1, 1, (8, 16, 32, 64))),
    head_planes=(8, 16, 32, 64),
    features=256,
)
"""A few hundred thousand parameters in HRNet's shape."""

_NANO = replace(
    _S,
    backbone=HRNET_NANO,
    mesh=(BlockConfig(32, 3, 1, 1, 128),),
    interaction_in=32,
    interaction=(BlockConfig(32, 4, 1, 1, 128),),
    presence=(64,),
    input=InputConfig(size=128),
    camera=CameraConfig(scale=400.0, shift=64.0, offset=64.0, start=(1.0, 0.0, 0.0)),
    upsampling=UpsamplingConfig("mesh", rank=8),
    regressor=RegressorConfig(hidden=256, hand_level=1, head_level=2, detached=True, norm="layer", aligned=True),
    placement=PlacementConfig(narrowed=64, hidden=128),
    mask_ratio=0.0,
    preset="dice-nano",
)
"""Trains on a laptop in an hour: for demonstrations and ablations without a GPU."""

_M = replace(
    _NANO,
    backbone=MobileNetConfig(),
    mesh=(BlockConfig(48, 3, 1, 1, 192),),
    interaction_in=64,
    interaction=(BlockConfig(48, 4, 1, 1, 192),),
    input=InputConfig(size=160),
    camera=CameraConfig(scale=500.0, shift=80.0, offset=80.0, hidden=512, start=(1.0, 0.0, 0.0), read="cells"),
    upsampling=UpsamplingConfig("mesh", rank=16),
    placement=PlacementConfig(narrowed=64, hidden=512, bends=True),
    points=PointsConfig(),
    nearness=NearnessConfig(),
    preset="dice-m",
)
"""A photo network for a CPU: MobileNetV2's ImageNet features and the detector's points."""

PRESETS = {"dice-w64": _W64, "dice-s": _S, "dice-m": _M, "dice-nano": _NANO}


def preset(name: str, sizes: Sizes | None = None) -> DiceConfig:
    """A preset by name, for these body models (the released ones if None). Raises ValueError for other names."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; {suggest(name, PRESETS)}")
    return PRESETS[name] if sizes is None else replace(PRESETS[name], sizes=sizes)
