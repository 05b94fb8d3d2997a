"""A tiny Depth Anything of random weights, in transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

PROCESSOR = {"size": {"height": 70, "width": 70}, "ensure_multiple_of": 14, "keep_aspect_ratio": True, "resample": 3}


def tiny_model(**changes: Any) -> Any:
    from transformers import DepthAnythingConfig as HubConfig
    from transformers import DepthAnythingForDepthEstimation, Dinov2Config

    layers = {"out_features": ["stage1", "stage2", "stage3", "stage4"], "reshape_hidden_states": False}
    backbone = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=70, patch_size=14, **layers
    )
    neck = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 8, "reassemble_hidden_size": 32}
    torch.manual_seed(0)
    return DepthAnythingForDepthEstimation(
        HubConfig(backbone_config=backbone, head_hidden_size=8, **neck, **changes)
    ).eval()


def write_checkpoint(folder: Path) -> Path:
    """A checkpoint folder as the hub has them."""
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

    tiny_model().save_pretrained(folder)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    DPTImageProcessorPil(**PROCESSOR, image_mean=mean, image_std=std).save_pretrained(folder)
    return folder
