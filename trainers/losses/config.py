"""What is minimised: weights, forms, and which of the released code's faults to bring back."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Balance = Literal["plain", "root", "balanced"]


@dataclass(frozen=True)
class LossWeights:
    """W of every term; 0 leaves a term out. The defaults are those of the released training script."""

    vertices: float = 1000.0
    """Both NP and P meshes, per metre."""
    keypoints_3d: float = 500.0
    """Per metre."""
    keypoints_2d: float = 250.0
    """Per picture side."""
    parameters: float = 500.0
    contact: float = 300.0
    presence: float = 500.0
    deformation: float = 3000.0
    deformation_large: float = 4.0
    """w_reg inside the deformation term: of deformations over 3 cm."""
    deformation_wild: float = 200.0
    """Per metre, where the deformation is not labelled."""
    touch: float = 0.1
    """Per millimetre of mean gap; of squared distances, per 1,000 square millimetres (0.1 is the released 100 per square metre)."""
    collision: float = 0.5
    """Per millimetre of mean depth; of squared distances, per 1,000 square millimetres, which at 10 mm is 1,000 times weaker."""
    depth: float = 50.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"loss weight {field.name} is {getattr(self, field.name)}; it must not be negative")


@dataclass(frozen=True)
class LossStarts:
    """Step, counted from 0, from which a term counts; before, it is 0 and costs nothing."""

    touch: int = 0
    collision: int = 0
    depth: int = 0
    """The authors: from epoch 2."""
    adversarial: int = 0


@dataclass(frozen=True)
class DepthLossConfig:
    """Depth at keypoints."""

    form: Literal["silog", "affine", "robust-affine", "ordinal"] = "affine"
    """silog: variance of log ratios, as in the paper; affine: aligned by scale and shift, which disparity needs; robust-affine: by
    median and trimmed; ordinal: order of pairs only."""
    at: Literal["surface", "keypoint"] = "surface"
    """surface: the meshes' front surface at the predicted keypoints, as a depth map shows; keypoint: the keypoints' own z."""
    samples: Literal["wild", "all"] = "wild"
    """wild: those without 3D labels."""
    margin: float = 0.002
    """ordinal: metres by which a pair must be in order."""
    clear: float = 0.25
    """ordinal: pairs whose references differ by less than this many standard deviations have no order."""
    min_points: int = 8
    """Samples with fewer known depths do not count."""


@dataclass(frozen=True)
class Faults:
    """What the released training code gets wrong, each of which can be brought back to measure what it costs."""

    centring: bool = False
    """Truth about the deformed head's mean, prediction about the undeformed one's."""
    joint_orders: bool = False
    """Keypoints read off the hand mesh are compared with truth in another order of joints."""
    collision_index: bool = False
    """Inside flags used as indices: hand vertices 0 and 1 are drawn to the head."""
    depth_corner: bool = False
    """Reference depth read at pixel (0, 0) for every keypoint, so that it is a constant."""
    depth_transposed: bool = False
    """Predicted depth read with x and y exchanged (needs depth at the surface)."""
    confidence_ignored: bool = False
    """2D keypoints of any confidence count alike."""

    @classmethod
    def all(cls) -> Faults:
        """Every one of them."""
        return cls(**{field.name: True for field in fields(cls)})


@dataclass(frozen=True)
class LossConfig:
    """The objective."""

    weights: LossWeights = LossWeights()
    starts: LossStarts = LossStarts()
    contact: Balance = "plain"
    """balanced: touching and other vertices weigh half each; root: between the two (`losses/contact.py`)."""
    stiffness: bool = False
    """Weigh deformation errors by tissue stiffness, which the authors computed and left out."""
    of: Literal["drawn", "parametric"] = "drawn"
    """Mesh that touch, collision and depth are read from. drawn: the network's own vertices, which such a loss moves in every preset.
    parametric: the posed bodies, as in the paper; where `regressor.detached` is on (all presets but dice-w64) that moves the regressors only."""
    distances: Literal["millimetres", "squared"] = "millimetres"
    """Of touch and collision. squared: as in the paper, which hardly sees what is a few millimetres off."""
    touch_head: Literal["undeformed", "deformed"] = "deformed"
    """deformed: as the hand meets it; touch then moves the head, not its deformation. undeformed: as released."""
    depth: DepthLossConfig = DepthLossConfig()
    faults: Faults = Faults()
    paper_released: bool = False
    """The released behaviour as a whole: all faults, the posed bodies, squared distances, SILog at the surface, plain contact, no stiffness."""

    def resolved(self) -> LossConfig:
        """With `paper_released` spelled out."""
        if not self.paper_released:
            return self
        return LossConfig(
            weights=self.weights,
            of="parametric",
            distances="squared",
            touch_head="undeformed",
            starts=self.starts,
            depth=DepthLossConfig(form="silog", at="surface", min_points=2),
            faults=Faults.all(),
            paper_released=True,
        )
