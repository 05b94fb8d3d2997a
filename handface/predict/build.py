"""A predictor ready to use: network by name, folder or file, on a device, with the pipeline's detector."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from handface.extras import require_opencv
from handface.pipeline.contract.config import Count, PatchSide

if TYPE_CHECKING:
    from handface.model.prediction.prediction import Detector
    from handface.model.prediction.predictor import Predictor

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictorOptions:
    """Which network, and how it runs."""

    model: str = "dice-m"
    """A preset (dice-m and dice-nano come with weights), or a checkpoint folder: a path, s3://, gs://."""
    hand_model: str | None = None
    """Hand body (.npz), if not the one the checkpoint names."""
    head_model: str | None = None
    """Head body (.npz), if not the one the checkpoint names."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes the GPU if there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is faster and about 1 % less exact."""
    compile: bool = False
    """torch.compile: a slow first photo, faster later ones."""
    batch_size: Count = 8
    """Crops the network gets at once."""
    mesh: Literal["parametric", "drawn"] = "parametric"
    """parametric: the bodies that the parameters pose; drawn: the network's own vertices, some millimetres from them. A fit is parametric."""
    fit: Literal["on", "off"] = "on"
    """Move the network's bodies until they lie on the detected points; off: the bare network."""
    depth: str | None = None
    """Checkpoint folder, hub id or .pth file of a Depth Anything: the fit then knows how far the hand lies from the face. See docs/depth.md."""
    depth_side: PatchSide | None = None
    """Side of Depth Anything's input, a multiple of 14; None is the checkpoint's own. 392 costs half of 518."""

    def __post_init__(self) -> None:
        if self.fit not in ("on", "off"):
            raise ValueError(f"fit is {self.fit!r}: 'on' or 'off' is expected")
        if self.depth == "":
            raise ValueError(
                "--depth is empty: name a Depth Anything (a folder, a hub id or a .pth file), or leave it out"
            )
        if self.depth is not None and self.fit == "off":
            raise ValueError(
                "--depth tells the fit how far the hand lies from the face: leave out --fit off, or --depth"
            )
        if self.depth is None and self.depth_side is not None:
            raise ValueError("--depth-side is Depth Anything's: name its checkpoint with --depth")


def build_predictor(options: PredictorOptions, detector: Detector | None = None) -> Predictor:
    """Load the network and put the detector before it. detector: the pipeline's if None.

    Raises WeightsError, TopologyError, BodyFileError or DepthWeightsError for wrong files, ValueError for a device that is not there.
    """
    from handface.model.fitting.config import FitConfig
    from handface.model.network.deploy.inference import InferenceConfig, choose_device
    from handface.model.prediction.predictor import Predictor, PredictorConfig
    from handface.model.weights.named import load_network
    from handface.pipeline.contract.checkpoints import local_weights

    require_opencv()
    device = str(choose_device(options.device))
    # before the network: a wrong checkpoint should not take seconds to be told
    detector = detector or _detector(options, device)
    with local_weights(options.model) as folder:
        loaded = load_network(folder, options.hand_model, options.head_model)
    if loaded.note:
        log.info("%s: %s", options.model, loaded.note)
    return Predictor.from_dice(
        loaded.network.to(device),
        detector,
        loaded.trained,
        InferenceConfig(options.precision, options.compile),
        PredictorConfig(batch=options.batch_size, mesh=options.mesh),
        options.hand_model,
        options.head_model,
        FitConfig() if options.fit == "on" else None,
    )


def _detector(options: PredictorOptions, device: str) -> Detector:
    """The pipeline's, which looks at depth too where a network for that is named."""
    from handface.predict.people import PeopleDetector

    if options.depth is None:
        return PeopleDetector()
    from handface.pipeline.stages.depth import DepthConfig
    from handface.predict.depth import DepthOfPeople

    depth = DepthConfig(depth_anything=options.depth, side=options.depth_side, device=device)
    return PeopleDetector(depth=DepthOfPeople(depth))
