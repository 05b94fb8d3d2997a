"""A predictor ready to use: network by name, folder or file, on a device, with the pipeline's detector."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from handface.extras import require_opencv
from handface.pipeline.contract.config import Count

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


def build_predictor(options: PredictorOptions, detector: Detector | None = None) -> Predictor:
    """Load the network and put the detector before it. detector: the pipeline's if None.

    Raises WeightsError, TopologyError or BodyFileError for wrong files, ValueError for a device that is not there.
    """
    from handface.model.fitting.config import FitConfig
    from handface.model.network.deploy.inference import InferenceConfig
    from handface.model.prediction.predictor import Predictor, PredictorConfig
    from handface.model.weights.named import load_network
    from handface.pipeline.contract.checkpoints import local_weights
    from handface.predict.people import PeopleDetector

    require_opencv()
    device = _device(options.device)
    with local_weights(options.model) as folder:
        loaded = load_network(folder, options.hand_model, options.head_model)
    if loaded.note:
        log.info("%s: %s", options.model, loaded.note)
    return Predictor.from_dice(
        loaded.network.to(device),
        detector or PeopleDetector(),
        loaded.trained,
        InferenceConfig(options.precision, options.compile),
        PredictorConfig(batch=options.batch_size, mesh=options.mesh),
        options.hand_model,
        options.head_model,
        FitConfig() if options.fit == "on" else None,
    )


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch says it in either way
        first = (str(error).splitlines() or ["unknown"])[0]
        raise ValueError(f"device {name!r} cannot be used here ({first}); cpu always can") from error
    return name
