"""How good the weights are on held-out data: the number that chooses the best checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.network.output import DiceOutput
from handface.trainers.config import TrainConfig
from handface.trainers.data import make_pass
from handface.trainers.distributed.ranks import Ranks
from handface.trainers.evaluation.pictures import Drawer, PictureView
from handface.trainers.evaluation.run import collect
from handface.trainers.evaluation.systems import NetworkSystem
from handface.trainers.evaluation.truth import LabelMeshes
from handface.trainers.metrics import BootstrapConfig, summarise
from handface.trainers.step import TrainStep

MAIN = ("pve", "reprojection")  # the first that the validation data can tell


_NO_INTERVALS = BootstrapConfig(replicates=0)
_SHOWN = 4


class Validation:
    """Opens the validation data once; call it to evaluate a run's weights."""

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        most = config.validate_samples
        limited = tuple(replace(d, limit=min(d.limit or most, most), fitted=False) for d in config.validation)
        self.loader = make_pass(replace(config.data, datasets=limited), ranks.rank, ranks.world)
        self.device = ranks.device
        self.truth: LabelMeshes | None = None

    def __call__(self, step: TrainStep) -> Mapping[str, float]:
        """{metric: value} over the whole set, the same on all ranks; of the moving average, if there is one."""
        system, truth = self._system(step), self._truth(step)
        batches = (batch.to(self.device) for batch in self.loader)
        records = collect({"network": system}, batches, truth, surface=None)["network"]
        return {name: estimate.value for name, estimate in summarise(records, _NO_INTERVALS).items()}

    def pictures(self, step: TrainStep) -> NDArray[np.uint8]:
        """The first samples as one picture (n S, 5 S, 3): crop, prediction, truth, and both from the side."""
        system, truth = self._system(step), self._truth(step)
        batch = next(iter(self.loader)).to(self.device)
        expected, labels = truth(batch), batch.keypoints_2d
        meshes = system(batch, expected).meshes
        assert meshes.pixels is not None
        predicted = PictureView(meshes, torch.cat([meshes.pixels, torch.ones_like(meshes.pixels[..., :1])], -1))
        drawer = Drawer(truth.hand.faces.cpu().numpy(), truth.head.faces.cpu().numpy())
        images = batch.images.permute(0, 2, 3, 1).cpu().numpy()
        known = PictureView(expected, labels)
        return np.concatenate([drawer.draw(images[k], predicted, known, k) for k in range(min(_SHOWN, len(batch)))])

    def _system(self, step: TrainStep) -> NetworkSystem:
        network = step.network
        if step.ema is not None:
            network = copy.deepcopy(network)
            network.load_state_dict(step.ema.state)
        network.eval()

        def run(images: torch.Tensor, points: torch.Tensor | None = None) -> DiceOutput:
            with torch.no_grad():
                output: DiceOutput = network(images, points=points)
            return output

        return NetworkSystem(run, network.config, step.bodies.hand, step.bodies.head)

    def _truth(self, step: TrainStep) -> LabelMeshes:
        self.truth = self.truth or LabelMeshes(step.network.config.sizes, self.device)
        return self.truth


def main_metric(values: Mapping[str, float]) -> tuple[str, float]:
    """The metric that chooses, and its value; lower is better. Raises ValueError if the data tell none."""
    for name in MAIN:
        if name in values:
            return name, values[name]
    raise ValueError(f"the validation data tell none of {', '.join(MAIN)}: they need 3D labels or 2D keypoints")
