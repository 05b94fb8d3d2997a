"""The whole way on an embedded input: scenes and photos to shards, a few training steps on two processes, evaluation, predictions, one page.

Needs no licence, and no network either. Every step does what the verb of its name does.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from handface.extras import require
from handface.pipeline.contract.config import Count

if TYPE_CHECKING:
    from handface.trainers.config import TrainConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """Where the demo writes."""

    output: Path = Path("out/demo")
    """Folder for scenes, input, parts and report; run it again and finished parts stay."""
    scenes: Count = 12
    """Synthetic scenes among the pictures."""
    workers: int = 2
    """Ray workers."""
    local: bool = False
    """Without Ray: annotation in this process."""
    steps: Count = 8
    """Training steps, of 4 scenes on each of 2 processes."""


Step = Callable[[Config], int]


def run(config: Config) -> int:
    """Do one step after the other. Returns the first exit code that is not 0. Raises ImportError where the photos' packages are missing."""
    import time

    require("demo", "handface demo", "matplotlib", "skimage")
    seconds: list[tuple[str, float]] = []
    for name, step in STEPS:
        start = time.monotonic()
        log.info("%s ...", name)
        if code := step(config):
            return code
        seconds.append((name, time.monotonic() - start))
    write_page(config, seconds)
    print(f"Open {_page(config).absolute()} in a browser.")
    return 0


def render_scenes(config: Config) -> int:
    """Labelled shards of synthetic scenes in scenes/, and of others to measure on in held_out/."""
    # two parts, so that both workers have something to do
    return _render(config, _scenes(config), seed=0, size=384) or _render(config, _held_out(config), seed=1, size=192)


def _render(config: Config, output: Path, seed: int, size: int) -> int:
    from handface.jobs import synthesize

    return synthesize.run(
        synthesize.Config(
            count=config.scenes,
            output=str(output),
            seed=seed,
            size=size,
            unit_size=-(-config.scenes // 2),
            workers=config.workers,
            local=config.local,
        )
    )


def write_input(config: Config) -> int:
    """Pictures in input/: those of the scenes, package photos, and files that are bad on purpose."""
    from handface.jobs.demonstration.pictures import write_demo_input, write_scene_pictures

    photos = config.output / "input"
    count = len(write_demo_input(photos)) + len(write_scene_pictures(_scenes(config), photos))
    log.info("%d pictures in %s; some are bad on purpose", count, photos)
    return 0


def annotate_pictures(config: Config) -> int:
    """Annotated shards in parts/."""
    from handface.jobs import annotate
    from handface.pipeline.stages.depth import DepthConfig
    from handface.pipeline.stages.pack import PackConfig

    return annotate.run(
        annotate.Config(
            input=(str(config.output / "input"),),
            output=str(_parts(config)),
            unit_size=15,
            workers=config.workers,
            local=config.local,
            depth=DepthConfig(fastdepth=_have_fastdepth()),
            pack=PackConfig(depth_maps=True),
        )
    )


def check_shards(config: Config) -> int:
    """Both sets of shards against the sample contract."""
    from handface.jobs import validate

    return validate.run(validate.Config(shards=(str(_scenes(config)), str(_parts(config)))))


def make_report(config: Config) -> int:
    """report.html of what was annotated."""
    from handface.jobs import report

    return report.run(report.Config(parts=(str(_parts(config)),), output=str(_report(config))))


def train_network(config: Config) -> int:
    """A few steps on two processes, from the embedded weights, in run/."""
    import subprocess

    run = _run(config)
    run.mkdir(parents=True, exist_ok=True)
    (run / "demo.json").write_text(_training(config).dumps())
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *ranks, "-m", "handface.jobs.train", "--config", str(run / "demo.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, check=False).returncode


def _training(config: Config) -> TrainConfig:
    from handface.trainers.config import OptimConfig, TrainConfig
    from handface.trainers.data import DataConfig, DatasetConfig
    from handface.trainers.losses import LossConfig, LossWeights

    scenes = DatasetConfig("scenes", (str(_scenes(config)),))
    return TrainConfig(
        data=DataConfig((scenes,), image_size=128, batch_size=4, workers=0),
        output=str(_run(config)),
        preset="dice-nano",
        init="dice-nano",
        steps=config.steps,
        loss=LossConfig(LossWeights(touch=0, collision=0)),
        optim=OptimConfig(lr=1e-4, warm_up=1, schedule="constant"),
        log_every=1,
        checkpoint_every=config.steps,
    )


def evaluate_network(config: Config) -> int:
    """The paper's table in evaluation/, on scenes that were not trained on."""
    from handface.jobs import evaluate

    return evaluate.run(
        evaluate.Config(
            shards=(f"held out={_held_out(config)}",),
            model=str(_run(config) / "last"),
            train=(str(_scenes(config)),),
            output=config.output / "evaluation",
            workers=0,
            pictures=2,
        )
    )


def predict_pictures(config: Config) -> int:
    """Meshes over the photos and some scenes, in predictions/."""
    from handface.jobs import predict

    photos = config.output / "input"
    names = [*photos.glob("touch_*_left.*"), *photos.glob("touch_*_right.*"), *sorted(photos.glob("scene_*touch*"))[:4]]
    model = str(_run(config) / "last")
    return predict.run(predict.Config(inputs=tuple(map(str, names)), output=_predictions(config), model=model))


STEPS: tuple[tuple[str, Step], ...] = (
    ("render scenes", render_scenes),
    ("write input", write_input),
    ("annotate", annotate_pictures),
    ("validate", check_shards),
    ("report", make_report),
    ("train on two processes", train_network),
    ("evaluate", evaluate_network),
    ("predict", predict_pictures),
)


def write_page(config: Config, seconds: Sequence[tuple[str, float]]) -> None:
    """Everything on one page, index.html."""
    from handface.jobs.demonstration.page import DemoPage, render_demo_page

    overlays = sorted(p for p in _predictions(config).glob("*.png") if not p.stem.endswith("_contact"))
    network = f"The embedded dice-nano and {config.steps} more steps on {config.scenes} scenes: too few to change much."
    evaluation, log = config.output / "evaluation" / "index.html", _run(config) / "log.jsonl"
    page = DemoPage(seconds, _report(config), log, evaluation, overlays, network)
    _page(config).write_text(render_demo_page(page), encoding="utf-8")


def _scenes(config: Config) -> Path:
    return config.output / "scenes"


def _parts(config: Config) -> Path:
    return config.output / "parts"


def _held_out(config: Config) -> Path:
    return config.output / "held_out"


def _run(config: Config) -> Path:
    return config.output / "run"


def _predictions(config: Config) -> Path:
    return config.output / "predictions"


def _report(config: Config) -> Path:
    return config.output / "report.html"


def _page(config: Config) -> Path:
    return config.output / "index.html"


def _have_fastdepth() -> bool:
    """Whether the small depth network is here or can be fetched; without it the demo shows MediaPipe's relative depth only."""
    from handface.pipeline.contract.model_store import ModelError, ModelStore

    try:
        require("onnxruntime", "dense depth", "onnxruntime")
        ModelStore().path("fastdepth")
    except (ImportError, ModelError) as error:
        log.warning("going on without dense depth. %s", error)
        return False
    return True


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("demo"))
