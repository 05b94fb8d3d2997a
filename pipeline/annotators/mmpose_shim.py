"""Makes mmpose 1.3.2 importable beside mmcv-lite: stands in for compiled operators that no top-down network here uses.

mmpose's model registry imports `mmcv.ops`, `mmdet` and torchvision unguarded for networks such as EDPose and RTMO. Each
stand-in raises when used; nothing is replaced that is installed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def install() -> None:
    """Put the stand-ins into sys.modules; call before mmpose is imported, with mmcv-lite installed. Calling it again changes nothing."""
    if "mmcv.ops" not in sys.modules and find_spec("mmcv._ext") is None:
        _module("mmcv.ops", MultiScaleDeformableAttention=_Missing, DeformConv2d=_Missing)
    if "mmdet" not in sys.modules and find_spec("mmdet") is None:
        _module("mmdet", utils=_module("mmdet.utils", ConfigType=dict, reduce_mean=_same))
    if "torchvision" not in sys.modules and find_spec("torchvision") is None:
        _module("torchvision", transforms=_module("torchvision.transforms", ToPILImage=_Missing))


class _Missing:
    """An operator that is not there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("this network needs mmcv with compiled operators, mmdet or torchvision; see docs/mmpose.md")


def _same(tensor: Any) -> Any:
    return tensor


def _module(name: str, **members: Any) -> ModuleType:
    import importlib.machinery

    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)  # find_spec must go on working
    module.__dict__.update(members)
    sys.modules[name] = module
    return module
