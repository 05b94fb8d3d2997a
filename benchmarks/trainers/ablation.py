"""What wild pictures buy: the ablation the paper's reviewers asked for, on synthetic data.

Every run starts from the same weights, pretrained on "studio" scenes (`synthesize --pictures.domain studio`) alone, and goes on with
studio scenes and "wild" ones (domain open) of which only 2D keypoints and depth are used. Runs that are there are not repeated.

    handface synthesize --count 4000 --seed 11 --size 192 --pictures.domain studio --output out/studio
    handface synthesize --count 10000 --seed 21 --size 192 --output out/wild
    handface synthesize --count 300 --seed 41 --size 192 --pictures.domain studio --output out/held_studio
    handface synthesize --count 300 --seed 42 --size 192 --output out/held_open
    python -m benchmarks.trainers.ablation --studio out/studio --wild out/wild --held studio=out/held_studio open=out/held_open \
        --output out/ablation --save
"""

from __future__ import annotations

import dataclasses
import json
import logging
import statistics
from pathlib import Path

import torch
import tyro

from benchmarks.results import Figure, report
from handface.model.network.deploy.inference import prepare
from handface.trainers.config import OptimConfig, PriorsRun, TrainConfig
from handface.trainers.data import AugmentConfig, DataConfig, DatasetConfig, make_pass
from handface.trainers.evaluation.run import collect
from handface.trainers.evaluation.systems import MeanPose, NetworkSystem, System
from handface.trainers.evaluation.truth import LabelMeshes
from handface.trainers.losses import DepthLossConfig, Faults, LossConfig, LossWeights
from handface.trainers.metrics import BY_NAME, BootstrapConfig, Estimate, summarise
from handface.trainers.priors import PriorSource, RealConfig
from handface.trainers.trainer import train

log = logging.getLogger(__name__)
SHOWN = ("pve", "mpjpe", "pa_mpjpe", "pve_hand", "face_f1", "hand_f1", "reprojection", "depth_order", "agreement")
# Student's t for a 95 % interval over n runs
_T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26}


@dataclasses.dataclass(frozen=True)
class Config:
    studio: str
    """Parts of studio scenes to train on."""
    wild: str
    """Parts of open-world scenes; only their 2D keypoints and depth are used."""
    held: tuple[str, ...]
    """NAME=PATH of data to measure on, never trained on."""
    output: Path = Path("out/ablation")
    """Folder of the runs."""
    preset: str = "dice-nano"
    """dice-s or dice-w64 where there is a GPU."""
    pretrain_steps: int = 600
    """Steps on studio scenes alone."""
    pretrain_batch_size: int = 32
    steps: int = 150
    """Steps of every variant."""
    batch_size: int = 16
    lr: float = 1.5e-3
    """Peak rate of the pretraining; a third of it for the variants."""
    wild_counts: tuple[int, ...] = (100, 1000, 10000)
    """Numbers of wild scenes for the variant by number; the others use the largest."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the variants: order of the data, augmentation, discriminators. The pretraining is done once, with the first."""
    variants: tuple[str, ...] = ()
    """Only these; all if not given."""
    threads: int = 1
    """CPU threads."""
    interaction_losses: bool = False
    """Also touch and collision, which cost as much as everything else on a CPU."""
    subject: str = "ablation"
    """Page and CSV under docs/results; `ablation_gpu` on a GPU."""
    save: bool = False
    """Write the figures there."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a run differs. wild: number of wild scenes."""

    name: str
    wild: int
    loss: LossConfig
    priors: bool = False
    one_branch: bool = False


def variants(config: Config) -> list[Variant]:
    """The paper's ablation, corrected and as released, and by number of wild scenes."""
    base, plain = loss_of(config), loss_of(config, depth=0)
    released = dataclasses.replace(
        base, depth=DepthLossConfig("silog"), faults=Faults(depth_corner=True, depth_transposed=True)
    )
    most = max(config.wild_counts)
    rows = [
        Variant("no wild", 0, plain),
        Variant("wild 2D", most, plain),
        Variant("wild 2D + SILog as released", most, released),
        Variant("wild 2D + depth, affine", most, base),
        Variant("wild 2D + depth, affine, of the drawn mesh, 10 W", most, drawn_depth(config)),
        Variant("wild 2D + depth, affine + priors", most, base, priors=True),
        Variant("wild 2D + depth, affine, one branch", most, base, one_branch=True),
        *(Variant(f"wild 2D + depth, affine, {n} scenes", n, base) for n in config.wild_counts if n != most),
    ]
    return [row for row in rows if not config.variants or row.name in config.variants]


def loss_of(config: Config, depth: float = LossWeights.depth) -> LossConfig:
    """What all runs share: as `dice-nano` was trained, but that the few vertices that touch weigh as much as the others."""
    weights = LossWeights(parameters=50, contact=100, depth=depth)
    if not config.interaction_losses:
        weights = dataclasses.replace(weights, touch=0, collision=0)
    return LossConfig(weights, contact="balanced", of="parametric")


def drawn_depth(config: Config) -> LossConfig:
    """Depth of the mesh that the network draws, as the small presets let nothing of the posed bodies' losses move it; at ten times the
    weight, at which it is a sixth of the loss and no longer a fiftieth.
    """
    return dataclasses.replace(loss_of(config, depth=10 * LossWeights.depth), of="drawn")


def run_of(config: Config, seed: int, variant: Variant | None, one_branch: bool) -> TrainConfig:
    """The pretraining (variant None), which is the same for all seeds, or a variant of a seed."""
    if variant is None:
        seed = config.seeds[0]
    name = (
        "pretrain-" + ("one" if one_branch else "two")
        if variant is None
        else variant.name.replace(" ", "_").replace(",", "")
    )
    datasets = [DatasetConfig("studio", (config.studio,))]
    if variant is not None and variant.wild:
        datasets.append(DatasetConfig("wild", (config.wild,), weak=True, limit=variant.wild))
    priors = None
    if variant is not None and variant.priors:
        source = (PriorSource(config.studio),)
        priors = PriorsRun(RealConfig(hand=source, head=source), lr=config.lr / 10)
    size = {"dice-nano": 128}.get(config.preset, 224)
    steps = config.pretrain_steps if variant is None else config.steps
    return TrainConfig(
        data=DataConfig(
            tuple(datasets),
            image_size=size,
            batch_size=config.pretrain_batch_size if variant is None else config.batch_size,
            seed=seed,
            workers=1,
            augment=AugmentConfig(rotation=20),
        ),
        output=str(config.output / f"{name}-{seed}"),
        preset=config.preset,
        one_branch=one_branch,
        init=None if variant is None else run_of(config, seed, None, one_branch).output + "/last",
        steps=steps,
        loss=loss_of(config, depth=0) if variant is None else variant.loss,
        optim=OptimConfig(
            lr=config.lr if variant is None else config.lr / 3,
            warm_up=max(1, steps // 10),
            schedule="cosine",
            clip_value=None,
            clip_norm=10,
            ema=0.99,
        ),
        priors=priors,
        precision="bf16" if torch.cuda.is_available() else "fp32",
        seed=seed,
        checkpoint_every=max(50, steps // 4),
        keep=1,
    )


def measured(held: dict[str, str], system: System, truth: LabelMeshes, size: int) -> dict[str, dict[str, float]]:
    """{held-out set: {metric: value}}."""
    found = {}
    for name, path in held.items():
        loader = make_pass(DataConfig((DatasetConfig(name, (path,)),), image_size=size, batch_size=32, workers=1))
        device = truth.hand.template.device
        records = collect({"system": system}, (batch.to(device) for batch in loader), truth, surface=None)["system"]
        values = summarise(records, BootstrapConfig(replicates=0))
        found[name] = {metric: values[metric].value for metric in SHOWN if metric in values}
    return found


def held_out(config: Config) -> dict[str, str]:
    """{name: path} of the data to measure on."""
    return {name: path for name, _, path in (named.partition("=") for named in config.held)}


def result_of(config: Config, seed: int, variant: Variant) -> dict[str, dict[str, float]]:
    """Train and measure a variant; what an earlier start trained or measured is not done again."""
    for wanted in (None, variant):
        run = run_of(config, seed, wanted, variant.one_branch)
        if not Path(run.output, "last").is_dir():
            log.info("training %s", Path(run.output).name)
            train(run)
    target = Path(run.output, "measured.json")
    found: dict[str, dict[str, float]] = json.loads(target.read_text()) if target.is_file() else {}
    if missing := {name: path for name, path in held_out(config).items() if name not in found}:
        from handface.model.weights.checkpoint import load_dice

        network = load_dice(Path(run.output, "last")).to("cuda" if torch.cuda.is_available() else "cpu")
        truth = LabelMeshes(network.config.sizes, network.template.device)
        system = NetworkSystem(prepare(network), network.config, truth.hand, load_head(network))
        found |= measured(missing, system, truth, run.data.image_size)
        target.write_text(json.dumps(found))
    return found


def load_head(network) -> torch.nn.Module:  # type: ignore[no-untyped-def]
    from handface.model.bodies import load_body

    head = network.config.sizes.head
    return load_body(head.body, head.convention).to(network.template.device)


def mean_pose(config: Config) -> dict[str, dict[str, float]]:
    """What the mean of the studio scenes' labels scores."""
    from handface.trainers.build import build_network

    run = run_of(config, 0, None, False)
    truth = LabelMeshes(build_network(run).config.sizes)
    data = dataclasses.replace(run.data, datasets=(dataclasses.replace(run.data.datasets[0], limit=1000),))
    return measured(held_out(config), MeanPose.of(make_pass(data), truth), truth, run.data.image_size)


def interval(values: list[float]) -> Estimate:
    """Mean and 95 % interval over runs."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, float("nan"), float("nan"))
    half = _T.get(len(values), 2.0) * statistics.stdev(values) / len(values) ** 0.5
    return Estimate(mean, mean - half, mean + half)


def main(config: Config) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(config.threads)
    rows = variants(config)
    results = {row.name: [result_of(config, seed, row) for seed in config.seeds] for row in rows}
    results = {"mean pose of the studio scenes": [mean_pose(config)]} | results
    figures = [figure for held in held_out(config) for figure in figures_of(held, results)]
    report(config.subject, figures, config.save)


def figures_of(held: str, results: dict[str, list[dict[str, dict[str, float]]]]) -> list[Figure]:
    """The table of one held-out set: a row per variant, means and 95 % intervals over seeds."""
    shown = [metric for metric in SHOWN if any(metric in runs[0].get(held, {}) for runs in results.values())]
    figures = []
    for name, runs in results.items():
        for metric in shown:
            found = interval([run[held][metric] for run in runs if metric in run[held]] or [float("nan")])
            spread = f" ± {found.high - found.value:.2g}" if found.high == found.high else ""
            column = f"{BY_NAME[metric].title}, {BY_NAME[metric].unit}"
            figures.append(Figure(f"on {held} | {name} | {column}", f"{found.value:.3g}{spread}"))
    return figures


if __name__ == "__main__":
    main(tyro.cli(Config))
