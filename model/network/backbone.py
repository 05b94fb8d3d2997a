"""Image -> feature cells: our HRNet, or any backbone of the transformers library by name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from handface.extras import extra
from handface.model.network.config import AutoConfig, HRNetConfig, MobileNetConfig
from handface.model.network.hrnet import HRNet
from handface.model.network.mobilenet import MobileNet


class AutoBackbone(nn.Module):
    """The last feature map of a transformers backbone. (B, 3, S, S) -> (B, features, h, w)."""

    def __init__(self, config: AutoConfig) -> None:
        super().__init__()
        with extra("depth", f"backbone {config.name!r}"):
            import transformers

        if Path(config.name).is_dir():
            settings = transformers.AutoConfig.from_pretrained(config.name, local_files_only=True, **config.options)
        else:
            try:
                settings = transformers.AutoConfig.for_model(config.name, **config.options)
            except ValueError:
                raise ValueError(
                    f"backbone {config.name!r} is neither a folder nor a model type of transformers"
                    f" {transformers.__version__} (try convnext, dinov2, resnet, swin)"
                ) from None
        self.network = transformers.AutoBackbone.from_config(settings)
        self.features = int(self.network.channels[-1])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, features, h, w)."""
        return self.network(image).feature_maps[-1]


Backbone = HRNet | MobileNet | AutoBackbone


def build_backbone(config: HRNetConfig | MobileNetConfig | AutoConfig) -> Backbone:
    """The backbone a configuration asks for."""
    if isinstance(config, HRNetConfig):
        return HRNet(config)
    return MobileNet(config) if isinstance(config, MobileNetConfig) else AutoBackbone(config)


def count_cells(backbone: Backbone, size: int) -> int:
    """Cells h * w of the feature map for a (size, size) image; needs no arithmetic but for `AutoBackbone`, which does one pass.

    Raises ValueError if the size does not fit the stride.
    """
    if not isinstance(backbone, AutoBackbone):
        if size % backbone.stride:
            raise ValueError(f"input size {size} is not a multiple of {backbone.stride}")
        return (size // backbone.stride) ** 2
    was_training = backbone.training
    with torch.no_grad():
        cells = backbone.eval()(torch.zeros(1, 3, size, size)).flatten(2).shape[2]
    backbone.train(was_training)
    return cells
