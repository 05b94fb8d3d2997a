"""Any top-down mmpose network (RTMPose, RTMW, HRNet; whole-body, hand, face) through mmpose itself. See docs/mmpose.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.pipeline.annotators import mmpose_shim, top_down
from handface.pipeline.annotators.top_down import POINTS, Layout
from handface.pipeline.contract.detections import Detections
from handface.pipeline.contract.sample import AnnotatorRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class MmposeConfig:
    """Which network, and how it is run."""

    config: str
    """A config file, or one of those inside the mmpose wheel, relative to its `.mim/configs`."""
    checkpoint: Path
    """A .safetensors state dict, or a .pth that torch reads with weights_only."""
    layout: Layout = "wholebody"
    """Which points it gives: wholebody (133), hand (21), face68, or face106 (LaPa)."""
    licence: str = "unknown"
    """Of the weights, kept with every sample."""
    device: str = "cpu"
    """Torch device."""


class MmposeAnnotator:
    """A top-down network under mmpose, without test-time flipping. Raises PoseError saying what is missing."""

    def __init__(self, config: MmposeConfig) -> None:
        self.config = config
        state = _read_state(config.checkpoint)
        self.model = build(config.config, config.device)
        try:
            self.model.load_state_dict(state)
        except RuntimeError as error:
            raise top_down.PoseError(f"{config.checkpoint} does not fit {config.config}: {error}") from error

    def annotate(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Detections] | None = None
    ) -> list[Detections]:
        """Images (H, W, 3) uint8 RGB and where faces and hands are -> this network's points. Raises ValueError without boxes."""
        return top_down.annotate(self, self.config.layout, images, boxes)

    def points(self, image: NDArray[np.uint8], boxes: Sequence[top_down.Box]) -> list[NDArray[np.float32]]:
        """One (K, 3) array of x, y in image pixels and confidence in [0, 1] for each box."""
        from mmpose.apis import inference_topdown

        bgr = np.ascontiguousarray(image[..., ::-1])
        found = []
        for sample in inference_topdown(self.model, bgr, np.array(boxes, np.float32)):
            predicted = sample.pred_instances
            xy, scores = predicted.keypoints[0], np.clip(predicted.keypoint_scores[0], 0, 1)
            if len(xy) != POINTS[self.config.layout]:
                raise top_down.PoseError(
                    f"{self.config.config} gives {len(xy)} points, layout {self.config.layout} expects "
                    f"{POINTS[self.config.layout]}"
                )
            found.append(np.column_stack([xy, scores]).astype(np.float32))
        return found

    def records(self) -> tuple[AnnotatorRecord, ...]:
        """Config name, mmpose's version and the hash of the checkpoint file."""
        from importlib.metadata import version

        from handface.pipeline.contract.model_store import file_sha256

        config = self.config
        name, task = Path(config.config).stem, top_down.TASKS[config.layout]
        digest = file_sha256(config.checkpoint)
        return (AnnotatorRecord(name, task, f"mmpose {version('mmpose')}", digest, config.licence),)


def build(config: str, device: str = "cpu") -> Any:
    """The network of a config with its initial weights, flipping off, nothing downloaded.

    Raises PoseError if mmpose is not installed or there is no such config.
    """
    try:
        import mmcv  # noqa: F401 - the stand-ins need it
        import mmengine  # noqa: F401

        mmpose_shim.install()
        import mmpose
        from mmengine.config import Config
        from mmpose.apis import init_model
    except ImportError as error:
        raise top_down.PoseError(
            f"mmpose cannot be imported ({error}). Install it as docs/mmpose.md shows, or export the network to ONNX "
            "elsewhere and use OnnxPose, which needs nothing more"
        ) from error
    bundled = Path(mmpose.__file__).parent / ".mim" / "configs" / config
    path = Path(config) if Path(config).is_file() else bundled
    if not path.is_file():
        raise top_down.PoseError(f"there is no config {config}, nor {bundled}")
    loaded = Config.fromfile(str(path))
    loaded.model.backbone.init_cfg = None  # it names a URL
    loaded.model.test_cfg.flip_test = False
    return init_model(loaded, None, device=device)


def export_onnx(model: Any, path: Path) -> None:
    """Write a SimCC network of `build` as one ONNX file with a free batch axis, for OnnxPose."""
    import torch

    width, height = model.cfg.codec.input_size
    names = ["simcc_x", "simcc_y"]
    axes = {name: {0: "batch"} for name in ["input", *names]}
    example = torch.zeros(1, 3, height, width, device=next(model.parameters()).device)

    class Tensors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, pixels: torch.Tensor) -> Any:
            return self.network(pixels, None, mode="tensor")

    torch.onnx.export(
        Tensors().eval(),
        (example,),
        str(path),
        input_names=["input"],
        output_names=names,
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )


def _read_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise top_down.PoseError(f"there is no checkpoint {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        loaded = torch.load(path, map_location="cpu", weights_only=True)
        state: dict[str, Any] = loaded.get("state_dict", loaded)
        return state
    except Exception as error:  # torch and safetensors raise many kinds
        raise top_down.PoseError(
            f"{path} is no plain state dict ({type(error).__name__}: {str(error)[:200]}). Checkpoints that pickle more than "
            "tensors are not read; strip one you trust as docs/mmpose.md shows"
        ) from error
