"""Predict hand and head meshes, their contact and the face's deformation from photos or videos.

Per photo NAME.json and NAME.npz (parameters, camera, keypoints, contact, meshes), NAME.png (overlay) and NAME_0_contact.png for
each person; per video NAME.mp4 (VP9 or H.264) and NAME.parquet. index.html shows all photos. summary.json lists what was found and how far
to trust it, where nobody was found and why, and what could not be read.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import tyro

from handface.extras import require
from handface.jobs.prediction.photos import predict_photos
from handface.jobs.prediction.summary import SHOWN, Summary, untrained_notice
from handface.jobs.prediction.videos import predict_video
from handface.jobs.shared.signals import sigterm_raises
from handface.pipeline.contract.config import Count
from handface.pipeline.sources import Unlisted
from handface.predict.build import PredictorOptions, build_predictor
from handface.predict.inputs import Input, list_inputs
from handface.suggest import suggest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handface.jobs.page.predictions import PredictionsPage
    from handface.model.outputs import MeshFormat
    from handface.model.outputs.coco import CocoFile
    from handface.model.prediction.prediction import Prediction
    from handface.model.prediction.predictor import Predictor

log = logging.getLogger(__name__)
_FORMATS = ("rerun", "smplx", "coco")


@dataclass(frozen=True, kw_only=True)
class Config(PredictorOptions):
    """What to predict and where to put it."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Photos, videos, folders, globs, URLs, lists (txt, csv, parquet) or WebDataset tars."""
    output: Path
    """Folder for the results; earlier results of the same name are overwritten, inputs never."""
    meshes: str = ""
    """Mesh files to write for each hand of a photo, e.g. `glb,ply,obj`; refused where an input is a video."""
    format: str = ""
    """Further files of photos, e.g. `coco,smplx`. rerun: NAME.rrd for the Rerun viewer (extra `rerun`); smplx: NAME_0_parameters.npz under the names of the MANO, FLAME and SMPL-X layers; coco: keypoints_coco.json of all."""
    pictures: bool = True
    """Whether overlays, contact maps and the page index.html are written; --no-pictures leaves them out."""
    limit: Count | None = None
    """Predict only the first N inputs."""
    any_file: bool = False
    """Let rows of a list name any file of this machine, not only those below the list's folder."""


@dataclass(frozen=True)
class _Wanted:
    """What is to be predicted, and which further files are written of each photo."""

    photos: list[Input]
    videos: list[Input]
    meshes: Sequence[MeshFormat]
    formats: Sequence[str]

    @property
    def inputs(self) -> list[Input]:
        return [*self.photos, *self.videos]


def run(config: Config) -> int:
    """Predict every input, going on past bad ones. Returns 0; 1 if some failed, or there is nobody in any of them."""
    from handface.jobs.page.predictions import PredictionsPage
    from handface.model.outputs.coco import CocoFile

    wanted = _wanted(config)
    _warn_of_earlier(config.output, wanted.inputs)
    predictor = build_predictor(config)
    config.output.mkdir(parents=True, exist_ok=True)
    summary = Summary(config.model, predictor.trained, {one.name: one.stem for one in wanted.inputs})
    page, coco = PredictionsPage(config.output, predictor.trained), CocoFile()
    _notice(summary)
    try:
        with sigterm_raises():
            _photos(predictor, config, wanted, summary, page, coco)
            for one in wanted.videos:
                predict_video(predictor, one, config.output, summary, pictures=config.pictures)
    except (KeyboardInterrupt, SystemExit):
        _write_whole(config, wanted, summary, page, coco)
        log.warning("ended before all was done; %s has what is; the same command begins anew", config.output)
        raise
    _write_whole(config, wanted, summary, page, coco)
    print(summary.text)
    print(f"results are in {config.output}")
    _notice(summary)
    return summary.exit_code


def _write_whole(config: Config, wanted: _Wanted, summary: Summary, page: PredictionsPage, coco: CocoFile) -> None:
    """What is about all inputs."""
    if "coco" in wanted.formats:
        (config.output / "keypoints_coco.json").write_text(json.dumps(coco.record, allow_nan=False) + "\n")
    if config.pictures and wanted.photos:
        page.write({one.name: summary.failed[one.name] for one in wanted.photos if one.name in summary.failed})
    (config.output / "summary.json").write_text(json.dumps(asdict(summary), indent=1) + "\n")


def _wanted(config: Config) -> _Wanted:
    """The inputs there are, and flags that fit them. Raises ValueError and FileNotFoundError before anything is loaded."""
    from handface.model.outputs import MESH_FORMATS

    if not config.inputs:
        raise ValueError(
            "name at least one photo, video, folder, list or URL: handface predict photo.jpg --output FOLDER"
        )
    meshes = cast("Sequence[MeshFormat]", _choose("--meshes", config.meshes, MESH_FORMATS))
    formats = _choose("--format", config.format, _FORMATS)
    if "rerun" in formats:
        require("rerun", "--format rerun", "rerun")
    inputs = list(islice(list_inputs(config.inputs, any_file=config.any_file), config.limit))
    if not inputs:
        raise ValueError(f"no photo or video in {' '.join(config.inputs)}")
    if all(isinstance(one.item, Unlisted) for one in inputs):
        raise FileNotFoundError("; ".join(one.item.detail for one in inputs[:SHOWN]))
    photos, videos = [one for one in inputs if not one.is_video], [one for one in inputs if one.is_video]
    if videos and (flag := "--meshes" if meshes else "--format" if formats else ""):
        raise ValueError(
            f"{flag} writes files of photos, and {videos[0].name} is a video: leave {flag} out for videos"
            " (their table has the parameters that pose the meshes), or give their frames as photos"
        )
    _keep_inputs(config.output, inputs)
    return _Wanted(photos, videos, meshes, formats)


def _keep_inputs(output: Path, inputs: Sequence[Input]) -> None:
    """Raise ValueError if a result would overwrite one of the inputs."""
    from handface.jobs.page.predictions import FOLDER

    results = {(output / f"{one.stem}{'.mp4' if one.is_video else '.png'}").resolve() for one in inputs}
    pictures = (output / FOLDER).resolve()
    for one in inputs:
        if one.item.member is not None or "://" in one.item.uri:
            continue
        path = Path(one.item.uri).resolve()
        if path in results or path.parent == pictures:
            raise ValueError(
                f"{one.name} could be overwritten by a picture of the results: give --output another folder"
            )


def _photos(
    predictor: Predictor, config: Config, wanted: _Wanted, summary: Summary, page: PredictionsPage, coco: CocoFile
) -> None:
    """Predict and write every photo."""
    from handface.jobs.shared.progress import Progress
    from handface.model.outputs.trust import describe_person

    with Progress("predicting", len(wanted.photos), unit="photos") as progress:
        for one, answer in predict_photos(predictor, wanted.photos):
            if isinstance(answer, str):
                summary.failed[one.name] = answer
            else:
                image, prediction = answer
                _save(config, wanted, one, image, prediction, page)
                if "coco" in wanted.formats:
                    coco.add(one.name, prediction)
                if prediction.persons:
                    summary.people[one.name] = [describe_person(who, prediction.trained) for who in prediction.persons]
                summary.found(one.name, len(set(prediction.faces)), len(prediction.persons), prediction.reason)
            progress.advance(1, f", {len(summary.persons)} with people, {len(summary.failed)} failed")


def _warn_of_earlier(output: Path, inputs: Sequence[Input]) -> None:
    """Say so if the folder holds another run's results, which stay: they may be another network's."""
    try:
        earlier = json.loads((output / "summary.json").read_bytes())
        names = {name for kind in ("persons", "nobody", "videos") for name in earlier.get(kind, {})}
    except (OSError, ValueError, AttributeError):
        return
    if others := sorted(names - {one.name for one in inputs}):
        log.warning(
            "%s also holds an earlier run's results of %s (network %s); they stay",
            output,
            f"{len(others)} other inputs, such as {others[0]}" if len(others) > 1 else others[0],
            earlier.get("model", "unknown"),
        )


def _save(
    config: Config,
    wanted: _Wanted,
    one: Input,
    image: NDArray[np.uint8],
    prediction: Prediction,
    page: PredictionsPage,
) -> None:
    """Everything about one photo."""
    from handface.model.outputs import encode_mesh, write_parameters, write_record, write_recording

    write_record(config.output, one.stem, one.name, prediction)
    if "rerun" in wanted.formats:
        write_recording(config.output / f"{one.stem}.rrd", image, prediction)
    for index, person in enumerate(prediction.persons):
        for kind in wanted.meshes:
            data = encode_mesh(person, kind, prediction.trained)
            (config.output / f"{one.stem}_{index}.{kind}").write_bytes(data)
        if "smplx" in wanted.formats:
            write_parameters(config.output / f"{one.stem}_{index}_parameters.npz", person, prediction.trained)
    if config.pictures:
        _save_pictures(config.output, wanted.meshes, one, image, prediction, page)


def _save_pictures(
    folder: Path,
    meshes: Sequence[MeshFormat],
    one: Input,
    image: NDArray[np.uint8],
    prediction: Prediction,
    page: PredictionsPage,
) -> None:
    """Overlay and contact maps, as files and on the page."""
    from handface.model.outputs import OverlayConfig, draw_contact_map, draw_overlay, with_banner

    overlay = draw_overlay(image, prediction, OverlayConfig(keypoints=True, banner=False))
    _write_png(folder / f"{one.stem}.png", overlay if prediction.trained else with_banner(overlay))
    maps = [draw_contact_map(person, prediction.trained) for person in prediction.persons]
    for index, contact in enumerate(maps):
        _write_png(folder / f"{one.stem}_{index}_contact.png", contact)
    written = [f"{one.stem}.{suffix}" for suffix in ("png", "json", "npz")]
    written += [f"{one.stem}_{index}.{kind}" for index in range(len(maps)) for kind in meshes]
    page.add(one.name, one.stem, image, overlay, prediction, maps, written)


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    from PIL import Image

    Image.fromarray(image).save(path)


def _choose(flag: str, text: str, known: Sequence[str]) -> list[str]:
    """What a flag with commas names, in the order of `known`. Raises ValueError for other names."""
    wanted = [kind.strip() for kind in text.split(",") if kind.strip()]
    if unknown := [kind for kind in wanted if kind not in known]:
        raise ValueError(f"{flag} {text}: no such choice as {unknown[0]}; {suggest(unknown[0], known)}")
    return [kind for kind in known if kind in wanted]


def _notice(summary: Summary) -> None:
    """Loudly on stderr, before the work and after it."""
    if not summary.trained:
        untrained_notice(summary.model)


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("predict"))
