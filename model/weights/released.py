"""The released DICE checkpoint in our names: which tensors are used, which are dead, and what sizes they imply."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from handface.model.network.config import (
    BlockConfig,
    CameraConfig,
    DiceConfig,
    HRNetConfig,
    RegressorConfig,
    StageConfig,
    preset,
)
from handface.model.network.topology import PartSizes, Sizes
from handface.model.weights.unpickle import Stub, WeightsError, walk_modules

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Recorded:
    """What a pickled module knows beyond its tensors. heads: encoder block prefix -> attention heads.  norm_eps or None."""

    heads: Mapping[str, int]
    norm_eps: float | None

    @classmethod
    def of(cls, root: Stub) -> Recorded:
        """Read it off the stub tree."""
        heads: dict[str, int] = {}
        eps: set[float] = set()

        def visit(prefix: str, module: Stub) -> None:
            count = module.__dict__.get("num_attention_heads")
            if isinstance(count, int):
                heads[prefix.partition(".bert.")[0]] = count
            value = module.__dict__.get("eps", module.__dict__.get("variance_epsilon"))
            if "LayerNorm" in prefix and isinstance(value, float):
                eps.add(value)

        walk_modules(root, visit)
        if len(eps) > 1:
            raise WeightsError(f"layer norms with different eps: {sorted(eps)}")
        return cls(heads, eps.pop() if eps else None)


def canonical(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Strip `module.` and give encoder blocks the names layer1, layer2 ... also where the file says 0, 1 ..."""

    def rename(key: str) -> str:
        key = key.removeprefix("module.")
        return re.sub(r"^((?:trans|deform)_encoder)\.(\d+)\.", lambda m: f"{m[1]}.layer{int(m[2]) + 1}.", key)

    return {rename(key): value for key, value in tensors.items()}


def infer_config(tensors: Tensors, recorded: Recorded | None = None) -> DiceConfig:
    """The configuration a released checkpoint implies, from `canonical` tensors.

    Head counts are in no tensor: they come from the pickled objects, else from the preset. Raises WeightsError naming the key.
    """
    base = preset("dice-w64")
    shape = _Shapes(tensors)
    recorded = recorded or Recorded({}, None)

    def blocks(encoder: str, like: tuple[BlockConfig, ...]) -> tuple[BlockConfig, ...]:
        found = []
        for index in range(shape.count(rf"{encoder}\.layer(\d+)\.", first=1)):
            prefix = f"{encoder}.layer{index + 1}"
            heads = recorded.heads.get(prefix, recorded.heads.get(f"{encoder}.{index}", like[0].heads))
            found.append(
                BlockConfig(
                    width=shape(f"{prefix}.bert.img_embedding.weight")[0],
                    out=shape(f"{prefix}.cls_head.weight")[0],
                    layers=shape.count(rf"{re.escape(prefix)}\.bert\.encoder\.layer\.(\d+)\."),
                    heads=heads,
                    hidden=shape(f"{prefix}.bert.encoder.layer.0.intermediate.dense.weight")[0],
                )
            )
        return tuple(found)

    hand_fine, hand_coarse = shape("hand_upsampling.weight")
    middle, head_coarse = shape("head_upsampling1.weight")
    head_fine = shape("head_upsampling2.weight")[0]
    tokens, cells = shape("conv_learn_tokens.weight")[:2]
    keypoints = tokens - hand_coarse - head_coarse
    hand = replace(base.sizes.hand, vertices=(hand_fine, hand_coarse))
    head = replace(base.sizes.head, vertices=(head_fine, middle, head_coarse), keypoints=keypoints - hand.keypoints)
    hidden, hand_inputs = shape("hand_param_regressor.regressor.0.fc_block.0.weight")
    head_inputs = shape("face_param_regressor.regressor.0.fc_block.0.weight")[1]
    try:
        return replace(
            base,
            sizes=Sizes(hand, head),
            backbone=_backbone(shape),
            mesh=blocks("trans_encoder", base.mesh),
            interaction_in=shape("feat_downsampler.weight")[0],
            interaction=blocks("deform_encoder", base.interaction),
            presence=(shape("contact_feat_extractor.0.weight")[0], shape("contact_feat_extractor.2.weight")[0]),
            input=replace(base.input, size=32 * math.isqrt(cells)),
            camera=replace(CameraConfig(), hidden=shape("cam_param_fc2.weight")[0]),
            regressor=RegressorConfig(hidden, _level(hand, hand_inputs), _level(head, head_inputs)),
            norm_eps=base.norm_eps if recorded.norm_eps is None else recorded.norm_eps,
        )
    except (ValueError, IndexError) as error:
        raise WeightsError(f"the tensors do not make a DICE network: {error}") from error


class _Shapes:
    """Shape by key, and how many numbered children a pattern has."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def __call__(self, key: str) -> tuple[int, ...]:
        if key not in self._tensors:
            raise WeightsError(f"not a DICE checkpoint: key {key!r} is missing")
        return tuple(self._tensors[key].shape)

    def count(self, pattern: str, first: int = 0) -> int:
        found = [int(match[1]) for key in self._tensors if (match := re.match(pattern, key))]
        return max(found, default=first - 1) + 1 - first


def _backbone(shape: _Shapes) -> HRNetConfig:
    stages = tuple(
        StageConfig(
            modules=shape.count(rf"backbone\.stage{stage}\.(\d+)\."),
            blocks=shape.count(rf"backbone\.stage{stage}\.0\.branches\.0\.(\d+)\."),
            channels=tuple(
                shape(f"backbone.stage{stage}.0.branches.{branch}.0.conv1.weight")[0] for branch in range(stage)
            ),
        )
        for stage in (2, 3, 4)
    )
    return HRNetConfig(
        stem=shape("backbone.conv1.weight")[0],
        stage1_blocks=shape.count(r"backbone\.layer1\.(\d+)\."),
        stage1_planes=shape("backbone.layer1.0.conv1.weight")[0],
        stages=stages,
        head_planes=tuple(shape(f"backbone.incre_modules.{k}.0.conv1.weight")[0] for k in range(4)),
        features=shape("backbone.final_layer.0.weight")[0],
    )


def _level(part: PartSizes, inputs: int) -> int:
    """Which mesh level a regressor with `inputs` inputs reads."""
    if inputs % 3 or inputs // 3 not in part.vertices:
        raise ValueError(f"a regressor reads {inputs} numbers, which is 3 times none of {part.vertices} vertices")
    return part.vertices.index(inputs // 3)


@dataclass(frozen=True)
class ReleasedSource:
    """Where one of our tensors comes from. keys are joined along the first axis; then `rows` are taken; then `shape` is set."""

    keys: tuple[str, ...]
    rows: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None

    def build(self, tensors: Tensors) -> torch.Tensor:
        """The tensor."""
        value = torch.cat([tensors[key] for key in self.keys]) if len(self.keys) > 1 else tensors[self.keys[0]]
        if self.rows is not None:
            value = value[list(self.rows)]
        return value.reshape(self.shape) if self.shape is not None else value


_LAYER = {
    "out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "norm2": "output.LayerNorm",
}
_PLAIN = {
    "interaction_net.reduce": "feat_downsampler",
    "hand_up.steps.0.linear": "hand_upsampling",
    "head_up.steps.0.linear": "head_upsampling1",
    "head_up.steps.1.linear": "head_upsampling2",
    "head_deformation_up.steps.0.linear": "head_deform_upsampling1",
    "head_deformation_up.steps.1.linear": "head_deform_upsampling2",
    "hand_contact_up.steps.0.linear": "hand_contact_upsampling",
    "head_contact_up.steps.0.linear": "head_contact_upsampling1",
    "head_contact_up.steps.1.linear": "head_contact_upsampling2",
    "camera.per_token": "cam_param_fc",
    "camera.mix": "cam_param_fc2",
    "camera.out": "cam_param_fc3",
    "presence.cell.0": "contact_feat_extractor.0",
    "presence.cell.2": "contact_feat_extractor.2",
    "presence.cell.4": "contact_feat_extractor.4",
    "presence.pool": "contact_classifier.0",
}


def sources(config: DiceConfig, ours: Tensors) -> dict[str, ReleasedSource]:
    """For every tensor of our state dict but the template: where it is in a `canonical` released checkpoint."""
    table: dict[str, ReleasedSource] = {}
    for key, value in ours.items():
        if key.startswith("backbone."):
            table[key] = ReleasedSource((key,))
        elif key.startswith("mix."):
            table[key] = ReleasedSource((key.replace("mix", "conv_learn_tokens"),), shape=tuple(value.shape))
        elif key.startswith("mesh_net."):
            table[key] = _block_source("trans_encoder", key.removeprefix("mesh_net."), config)
        elif key.startswith("interaction_net.blocks."):
            table[key] = _block_source("deform_encoder", key.removeprefix("interaction_net.blocks."), config)
        elif key.startswith(("hand_parameters.", "head_parameters.")):
            table[key] = _regressor_source(key, config)
        elif key != "template":
            stem, _, leaf = key.rpartition(".")
            table[key] = ReleasedSource((f"{_PLAIN[stem]}.{leaf}",))
    return table


def _block_source(encoder: str, key: str, config: DiceConfig) -> ReleasedSource:
    """key: `{block}.{rest}` below one of our block sequences."""
    index, _, rest = key.partition(".")
    block = f"{encoder}.layer{int(index) + 1}"
    if rest == "position":
        return ReleasedSource((f"{block}.bert.position_embeddings.weight",), rows=tuple(range(config.sizes.tokens)))
    name, _, leaf = rest.rpartition(".")
    if name == "embed":
        return ReleasedSource((f"{block}.bert.img_embedding.{leaf}",))
    if name in ("head", "shortcut"):
        return ReleasedSource((f"{block}.{'cls_head' if name == 'head' else 'residual'}.{leaf}",))
    _, layer, part = name.split(".")
    stem = f"{block}.bert.encoder.layer.{layer}"
    if part == "qkv":
        return ReleasedSource(tuple(f"{stem}.attention.self.{one}.{leaf}" for one in ("query", "key", "value")))
    return ReleasedSource((f"{stem}.{_LAYER[part]}.{leaf}",))


def _regressor_source(key: str, config: DiceConfig) -> ReleasedSource:
    part, _, rest = key.partition(".layers.")
    theirs = "hand_param_regressor" if part == "hand_parameters" else "face_param_regressor"
    block, _, leaf = rest.partition(".")
    if block == "0":
        return ReleasedSource((f"{theirs}.regressor.0.fc_block.{leaf}",))
    if block in ("1", "2"):
        return ReleasedSource((f"{theirs}.regressor.{block}.fc_block.{leaf.removeprefix('layers.')}",))
    sizes = config.sizes.hand if part == "hand_parameters" else config.sizes.head
    return ReleasedSource((f"{theirs}.regressor.3.{leaf}",), rows=_parameter_rows(sizes))


def _parameter_rows(sizes: PartSizes) -> tuple[int, ...]:
    """Released order -> ours (betas, expression, pose, global_orient, transl).

    Released: hand betas, transl, global_orient, pose; head shape, expression, pose, global_orient, transl.
    """
    if sizes.expression:
        return tuple(range(sizes.betas + sizes.expression + sizes.pose + 6))
    transl, orient, pose = sizes.betas, sizes.betas + 3, sizes.betas + 6
    return (*range(transl), *range(pose, pose + sizes.pose), *range(orient, pose), *range(transl, orient))


_DEAD = {
    r"backbone\.classifier\.": "classifier of the ImageNet net, never applied",
    r"(trans|deform)_encoder\.\w+\.bert\.embeddings\.": "BERT's word embeddings, never applied",
    r"(trans|deform)_encoder\.\w+\.bert\.pooler\.": "BERT's pooler, never applied",
}


def reason_dead(key: str) -> str | None:
    """Why the released forward pass never reads this tensor, or None if it does."""
    return next((reason for pattern, reason in _DEAD.items() if re.match(pattern, key)), None)
