"""ImageNet weights for HRNet, in the naming of the original repository or of timm, and for MobileNetV2, in torchvision's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from handface.model.network.hrnet import HRNet
from handface.model.network.mobilenet import MobileNet
from handface.model.weights.checkpoint import mismatches, read_safetensors, shown
from handface.model.weights.unpickle import WeightsError

_PREFIX = re.compile(r"^(module\.|model\.|backbone\.|timm_model\.)+")
_HEAD = ("classifier.", "fc.", "head.fc.")


@dataclass(frozen=True)
class ImageNetReport:
    """used: keys loaded.  dropped: the classifier's keys.  filled: conv biases some timm variants lack, set to zero."""

    used: tuple[str, ...]
    dropped: tuple[str, ...]
    filled: tuple[str, ...]


def load_imagenet(backbone: HRNet | MobileNet, file: Path) -> ImageNetReport:
    """Load a state dict (.pth by the weights-only reader, or .safetensors) into a backbone.

    Raises WeightsError naming missing, unknown and mismatched keys; nothing is changed then.
    """
    tensors = {_PREFIX.sub("", key): value for key, value in _read(Path(file)).items()}
    dropped = tuple(sorted(key for key in tensors if key.startswith(_HEAD)))
    found = {key: value for key, value in tensors.items() if key not in dropped}
    expected = backbone.state_dict()
    own: dict[str, torch.Tensor] = {}
    if isinstance(backbone, MobileNet):
        found = {key.replace("features.", "layers.", 1): value for key, value in found.items()}
        own = {key: expected.pop(key) for key in list(expected) if key.startswith("narrow.")}
    missing = sorted(expected.keys() - found.keys())
    filled = tuple(key for key in missing if re.match(r"(downsamp_modules\.\d+|final_layer)\.0\.bias$", key))
    counters = tuple(key for key in missing if key.endswith("num_batches_tracked"))  # files of torch < 0.4.1 have none
    found |= {key: torch.zeros_like(expected[key]) for key in (*filled, *counters)}
    problems = [
        ("missing", [key for key in missing if key not in found]),
        ("unknown", sorted(found.keys() - expected.keys())),
        ("of another shape", sorted(mismatches(expected, found))),
    ]
    if any(keys for _, keys in problems):
        text = "; ".join(f"{len(keys)} keys {what}: {shown(keys)}" for what, keys in problems if keys)
        raise WeightsError(f"{file} does not hold this {type(backbone).__name__}: {text}")
    backbone.load_state_dict(found | own)
    return ImageNetReport(tuple(sorted(found.keys() - set(filled))), dropped, filled)


def _read(file: Path) -> Mapping[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    if not file.is_file():
        raise WeightsError(f"{file}: no such file")
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise WeightsError(
            f"{file}: not a plain state dict ({type(error).__name__}); give the .pth of the authors"
        ) from error
    for name in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(f"{file}: not a state dict")
    return loaded
