"""Depth Anything V1 and V2 in the layout of the authors' own `.pth` files, turned into transformers' network.

The files hold tensors only and are read as such. Sizes follow from the tensors; what tensors do not tell, the version and whether
depth is metric, follows from the published file names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handface.extras import extra

if TYPE_CHECKING:
    import torch

ENDINGS = (".pth", ".pt")
# V2 takes four blocks spread over the encoder, V1 the last four
_V2_BLOCKS = {12: (3, 6, 9, 12), 24: (5, 12, 18, 24), 40: (10, 20, 30, 40)}
# metres that 1 stands for in the metric networks, by the data they were trained on
_METRIC = {"hypersim": 20, "vkitti": 80}
_HEAD_WIDTH = 64
_RENAMES = (
    (r"pretrained\.(cls_token|mask_token)", r"backbone.embeddings.\1"),
    (r"pretrained\.pos_embed", r"backbone.embeddings.position_embeddings"),
    (r"pretrained\.patch_embed\.proj\.", r"backbone.embeddings.patch_embeddings.projection."),
    (r"pretrained\.norm\.", r"backbone.layernorm."),
    (r"pretrained\.blocks\.(?:\d+\.)?(\d+)\.ls([12])\.gamma", r"backbone.encoder.layer.\1.layer_scale\2.lambda1"),
    (r"pretrained\.blocks\.(?:\d+\.)?(\d+)\.attn\.proj\.", r"backbone.encoder.layer.\1.attention.output.dense."),
    (r"pretrained\.blocks\.(?:\d+\.)?(\d+)\.mlp\.w12\.", r"backbone.encoder.layer.\1.mlp.weights_in."),
    (r"pretrained\.blocks\.(?:\d+\.)?(\d+)\.mlp\.w3\.", r"backbone.encoder.layer.\1.mlp.weights_out."),
    (r"pretrained\.blocks\.(?:\d+\.)?(\d+)\.", r"backbone.encoder.layer.\1."),
    (r"depth_head\.projects\.(\d)\.", r"neck.reassemble_stage.layers.\1.projection."),
    (r"depth_head\.resize_layers\.(\d)\.", r"neck.reassemble_stage.layers.\1.resize."),
    (r"depth_head\.scratch\.layer(\d)_rn\.", lambda m: f"neck.convs.{int(m[1]) - 1}."),
    (
        r"depth_head\.scratch\.refinenet(\d)\.out_conv\.",
        lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}.projection.",
    ),
    (
        r"depth_head\.scratch\.refinenet(\d)\.resConfUnit([12])\.conv([12])\.",
        lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}.residual_layer{m[2]}.convolution{m[3]}.",
    ),
    (r"depth_head\.scratch\.output_conv1\.", r"head.conv1."),
    (r"depth_head\.scratch\.output_conv2\.0\.", r"head.conv2."),
    (r"depth_head\.scratch\.output_conv2\.2\.", r"head.conv3."),
)


class OriginalLayoutError(ValueError):
    """A file is not one of Depth Anything's; the message names it and what was expected."""


def load_original(path: Path) -> Any:
    """A `.pth` of Depth Anything as transformers' `DepthAnythingForDepthEstimation`, in evaluation mode.

    Raises:
        OriginalLayoutError: the file is damaged, holds more than tensors, or holds another network.
    """
    with extra("depth", f"{path.name}: Depth Anything"):
        from transformers import DepthAnythingForDepthEstimation

    tensors = _read(path)
    config = _config(path, tensors)
    # not load_state_dict: transformers knows how its own names changed from version to version
    loaded: Any = DepthAnythingForDepthEstimation.from_pretrained(
        None, config=config, state_dict=rename(tensors), output_loading_info=True
    )
    model, info = loaded
    missing = sorted(name for name in info["missing_keys"] if not name.endswith("mask_token"))
    unknown = sorted(info["unexpected_keys"])
    if missing or unknown:
        raise OriginalLayoutError(
            f"{path}: {len(missing)} weights are missing{_first(missing)}; {len(unknown)} are unknown{_first(unknown)}"
        )
    return model.float().eval()


def check_original(path: Path) -> None:
    """Look whether the tensors of a `.pth` are those of Depth Anything, without building it. Raises OriginalLayoutError."""
    _config(path, _read(path))


def _first(names: list[str]) -> str:
    return f", first {names[0]}" if names else ""


def rename(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The authors' names -> transformers'; queries, keys and values, which lie in one tensor, become three."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if found := re.fullmatch(r"pretrained\.blocks\.(?:\d+\.)?(\d+)\.attn\.qkv\.(weight|bias)", name):
            for kind, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"backbone.encoder.layer.{found[1]}.attention.attention.{kind}.{found[2]}"] = part
            continue
        for pattern, new in _RENAMES:
            replaced, count = re.subn(rf"^{pattern}", new, name)
            if count:
                renamed[replaced] = tensor
                break
        else:
            renamed[name] = tensor
    return renamed


def _read(path: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # torch raises errors of pickle, zipfile, and its own
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise OriginalLayoutError(
            f"{path} cannot be read as tensors, which a file that torch.save wrote holds ({type(error).__name__}: {reason})"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise OriginalLayoutError(f"{path} holds a {type(content).__name__} and not named tensors")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _config(path: Path, tensors: Mapping[str, torch.Tensor]) -> Any:
    from transformers import DepthAnythingConfig, Dinov2Config

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise OriginalLayoutError(
                f"{path} has no {name}: expected the authors' layout of Depth Anything (depth_anything_v2_vits.pth and its like), or "
                "a transformers folder"
            )
        return tuple(tensors[name].shape)

    width, _, patch, _ = shape("pretrained.patch_embed.proj.weight")
    grid = round((shape("pretrained.pos_embed")[1] - 1) ** 0.5)
    numbers = {int(found[1]) for name in tensors if (found := re.match(r"pretrained\.blocks\.(?:\d+\.)?(\d+)\.", name))}
    blocks = len(numbers)
    gated = any(".mlp.w12." in name for name in tensors)
    neck = [shape(f"depth_head.projects.{number}.weight")[0] for number in range(4)]
    metric = next((metres for data, metres in _METRIC.items() if data in path.name), None)
    settings: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "mlp_ratio": 4 if gated else shape("pretrained.blocks.0.mlp.fc1.weight")[0] // width,
        "use_swiglu_ffn": gated,
        "image_size": grid * patch,
        "patch_size": patch,
        "out_indices": list(_taken_blocks(path, blocks)),
        "reshape_hidden_states": False,
    }
    backbone = Dinov2Config(**settings)
    return DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=patch,
        reassemble_hidden_size=width,
        neck_hidden_sizes=neck,
        fusion_hidden_size=shape("depth_head.scratch.layer1_rn.weight")[0],
        head_hidden_size=shape("depth_head.scratch.output_conv2.0.weight")[0],
        depth_estimation_type="metric" if metric else "relative",
        max_depth=metric or 1,
    )


def _taken_blocks(path: Path, blocks: int) -> tuple[int, ...]:
    """Which blocks the head looks at: the tensors are those of both versions, the published names tell."""
    name = path.name.lower()
    if "v2" in name:
        if blocks not in _V2_BLOCKS:
            raise OriginalLayoutError(f"{path}: an encoder of {blocks} blocks is none of V2's ({list(_V2_BLOCKS)})")
        return _V2_BLOCKS[blocks]
    if re.search(r"vit[sblg]14|_v1", name):
        return tuple(range(blocks - 3, blocks + 1))
    raise OriginalLayoutError(
        f"{path}: its name does not tell V1 from V2, whose tensors are alike; call it as its authors do, "
        "depth_anything_vits14.pth (V1) or depth_anything_v2_vits.pth"
    )
