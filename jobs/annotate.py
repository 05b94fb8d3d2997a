"""Turn photos, lists of URLs, tars or videos into labelled shards.

Run the same command again to continue a run that was stopped: finished parts stay, the rest is done. On a Ray cluster:
`ray job submit --working-dir . -- python -m jobs.annotate --input LIST --output s3://bucket/parts`.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from handface.counted import counted
from handface.extras import require, require_opencv
from handface.jobs.shared.units import one_writer
from handface.pipeline.stages.recipe import AnnotateConfig

if TYPE_CHECKING:
    from handface.pipeline.sources.check import Listing

log = logging.getLogger(__name__)
_PATTERN = "*?[{"
_MODEL_FILES = (".pth", ".pt", ".onnx", ".npz")
# Of CPU with MediaPipe's networks, as docs/results/annotate.md measures it.
_SECONDS_PER_PHOTO = 0.19


@dataclass(frozen=True, kw_only=True)
class Config(AnnotateConfig):
    """What to annotate, where to put it, and how each stage behaves."""

    input: tuple[str, ...]
    """Folders, globs, lists (txt, csv, tsv, jsonl, parquet), WebDataset tars, videos or URLs; in this order."""
    output: str
    """Folder for the parts: a path or an fsspec URI (s3://, gs://). Given an earlier run's folder, its rest is done."""
    workers: int = 0
    """Worker processes; 0 is one per CPU (of the cluster that RAY_ADDRESS names). Any number gives the same bytes."""
    local: bool = False
    """Work in this process, one unit after the other, without Ray."""
    check: Annotated[bool, tyro.conf.arg(aliases=("--dry-run",))] = False
    """List the inputs, say what they are, what is wrong with them and what would be done; write nothing."""
    skip_problems: bool = False
    """Go on without lists, tars and rows that cannot be read; they are counted as inputs that were turned away."""
    any_file: bool = False
    """Let rows of a list name any file of this machine, not only those below the list's folder."""


@one_writer
def run(config: Config) -> int:
    """Plan, work, show the funnel. Returns 0, or 1 if some units failed."""
    from handface.jobs.shared.progress import Progress
    from handface.jobs.shared.units import run_units
    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.engine.run import prepare
    from handface.pipeline.engine.units import plan_small_units
    from handface.pipeline.sources import open_source
    from handface.pipeline.sources.check import Listing
    from handface.pipeline.stages.recipe import build_stages

    if not config.input:
        raise ValueError("--input: name at least one folder, list, tar, video or URL")
    inputs = [_checked(uri) for uri in config.input]
    annotate = AnnotateConfig.of(config)
    listing = Listing(
        lambda notes: open_source(inputs, annotate.sources, notes, any_file=config.any_file), config.skip_problems
    )
    _check_models(annotate)
    _check_packages(annotate)
    _try_models(annotate)
    if config.check:
        return _check(listing, inputs, annotate, config)
    annotate = _settled(annotate)
    with Progress("listing") as progress:
        ready = prepare(
            inputs,
            annotate,
            config.output,
            list_inputs=lambda: listing,
            stages=build_stages,
            plan_with=plan_small_units,
            progress=progress.advance,
        )
    listing.finish(absolute(config.output))
    if ready.finished.parts:
        log.info(
            "joining the run of %s in %s: %d parts are finished; inputs that came later need another output folder",
            *(ready.day, config.output, ready.finished.parts),
        )
    return run_units(ready, "annotating", workers=config.workers, local=config.local)


def _settled(config: AnnotateConfig) -> AnnotateConfig:
    """The config with all that a run must not change its mind about: the segmenter, the lists to keep out and the user's networks."""
    from handface.pipeline.contract.exclusion import digest
    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.stages import depth, fit, keypoints
    from handface.pipeline.stages.detect import resolved

    exclude = tuple(absolute(uri) for uri in config.dedupe.exclude)
    dedupe = replace(config.dedupe, exclude=exclude, exclude_digest=digest(exclude))
    return replace(
        config,
        detect=resolved(config.detect),
        dedupe=dedupe,
        keypoints=keypoints.settled(config.keypoints),
        depth=depth.settled(config.depth),
        fit=fit.settled(config.fit),
    )


def _check(listing: Listing, inputs: list[str], annotate: AnnotateConfig, config: Config) -> int:
    from handface.jobs.shared.listing import print_listing
    from handface.pipeline.engine.executor import group_stages
    from handface.pipeline.engine.run import finished_of
    from handface.pipeline.engine.units import small_unit_size
    from handface.pipeline.engine.worker import MICRO_BATCH
    from handface.pipeline.stages.recipe import build_stages

    finished = finished_of(inputs, lambda: _settled(annotate), config.output, stages=build_stages)
    if code := print_listing(listing):
        return code
    count = listing.inputs + listing.problems.total() + len(listing.unlisted)
    size = small_unit_size(count, annotate.unit_size)
    units = -(-count // size)
    print(f"{counted(count, 'input')} in {counted(units, 'unit')} of up to {size}")
    for group in group_stages(build_stages(annotate, day="")):
        if names := [stage.name for stage in group.stages if not stage.off]:
            print(f"  {' > '.join(names)}, {group.resources}")
    most = MICRO_BATCH * (annotate.decode.max_pixels * 3 + annotate.read.max_bytes) >> 20
    print(f"memory of a worker: the networks (about 1 GB), {MICRO_BATCH} photos at a time (at most {most:,} MB)")
    print(f"time: about {listing.inputs * _SECONDS_PER_PHOTO / 3600:,.1f} hours of one CPU core")
    if finished is not None:
        print(f"would join the run in {config.output}, finished parts: {finished.parts:,}; wrote nothing")
        return 0
    print(f"would write {counted(units, 'part')} to {config.output}; wrote nothing")
    return 0


def _check_models(config: AnnotateConfig) -> None:
    """Raises FileNotFoundError for a model that is not there, before anything is planned. A hub id is for the workers to find."""
    from handface.model.network.config import PRESETS
    from handface.suggest import suggest

    named = {
        "--depth.depth-anything": config.depth.depth_anything,
        "--keypoints.checkpoint": config.keypoints.checkpoint,
        "--fit.model": config.fit.model,
        "--fit.hand-model": config.fit.hand_model,
        "--fit.head-model": config.fit.head_model,
    }
    for flag, name in named.items():
        if name is None or "://" in str(name) or Path(name).expanduser().exists():
            continue
        if isinstance(name, Path) or name.startswith((".", "/", "~")) or name.endswith(_MODEL_FILES):
            raise FileNotFoundError(f"{flag} {name}: no such file or folder")
        if flag == "--fit.model" and name not in PRESETS:
            raise FileNotFoundError(
                f"{flag} {name}: no such folder, and no network of that name; {suggest(name, PRESETS)}"
            )
        if flag == "--depth.depth-anything" and name.count("/") != 1:
            raise FileNotFoundError(f"{flag} {name}: no such file or folder, and hub ids are written OWNER/NAME")


def _check_packages(config: AnnotateConfig) -> None:
    """Raises ImportError, NetworkError or DepthWeightsError for what the flags need and is not installed, or does not load."""
    from handface.pipeline.annotators.mediapipe import check_graphs
    from handface.pipeline.annotators.networks.runtime import check_runtime

    require_opencv()
    if config.detect.annotator == "mediapipe":
        check_graphs()
    else:
        # Device and precision are for the workers to say: they may sit on other machines.
        check_runtime(replace(config.detect.detector.runtime, device="cpu", precision="f32"))
    if config.nsfw.threshold is not None:
        require("onnxruntime", "--nsfw.threshold", "onnxruntime")
    if config.depth.fastdepth:
        require("onnxruntime", "--depth.fastdepth", "onnxruntime")
    if config.depth.depth_anything is not None:
        from handface.pipeline.annotators.depth_anything import check_checkpoint

        require("depth", "--depth.depth-anything", "transformers", "huggingface_hub")
        check_checkpoint(config.depth.depth_anything)
    if config.keypoints.checkpoint is not None and config.keypoints.mmpose_config is None:
        require("onnxruntime", "--keypoints.checkpoint", "onnxruntime")


def _try_models(config: AnnotateConfig) -> None:
    """Load what the workers will load of the user's own networks: a file of another kind is told now, not by the first unit.

    Depth networks are large, and only looked at, by `_check_packages`. Raises PoseError, WeightsError, TopologyError, BodyFileError or
    ValueError.
    """
    from handface.pipeline.stages.fit import FitStage
    from handface.pipeline.stages.keypoints import KeypointsStage

    KeypointsStage(config.keypoints).setup()
    FitStage(config.fit).setup()


def _checked(uri: str) -> str:
    """Local paths absolute, so that workers elsewhere find them. Raises FileNotFoundError for a path that is not there."""
    from handface.pipeline.contract.storage import absolute

    path = absolute(uri)
    if "://" not in uri and not Path(path).exists() and not any(sign in uri for sign in _PATTERN):
        raise FileNotFoundError(f"--input {uri}: no such file or folder")
    return path


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("annotate"))
