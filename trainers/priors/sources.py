"""`read_parameters`: real parameters from whatever a path names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from handface.pipeline.contract.sample import LEFT, Labels, SampleError, decode_labels
from handface.pipeline.contract.shards import find_shards, read_shard
from handface.trainers.priors.freihand import MANO_FILE, read_freihand
from handface.trainers.priors.parameters import ParameterSet, PriorDataError
from handface.trainers.priors.renderme import read_renderme


def read_parameters(path: str, hand_body: str = "", mean_pose: bool = True) -> ParameterSet:
    """Real parameters from shards, FreiHAND, RenderMe-360 or a parameter file; which of them, the name tells.

    path: `.safetensors`; `.smc` or a folder of them; FreiHAND's folder or `training_mano.json`; otherwise shards: a tar, a folder
    of tars or a glob, local or fsspec URI.  hand_body: an imported MANO, whose mean pose FreiHAND's poses start from.
    Raises PriorDataError, ShardError or FileNotFoundError.
    """
    local = Path(path)
    if local.suffix == ".safetensors":
        return ParameterSet.load(local)
    if local.suffix == ".json" or (local / MANO_FILE).is_file():
        file = local if local.suffix == ".json" else local / MANO_FILE
        return read_freihand(file, _hands_mean(hand_body, file) if mean_pose else None)
    if local.suffix == ".smc":
        return read_renderme([local])
    if local.is_dir() and (files := sorted(local.rglob("*.smc"))):
        return read_renderme(files)
    return read_shards(path)


def read_shards(path: str) -> ParameterSet:
    """Parameters of all samples with 3D labels. Left hands are mirrored; faces are taken as they are."""
    try:
        found = find_shards([path])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no shards, parameter file, FreiHAND folder or .smc there") from error
    return collect_labels(path, (labels for file in found for labels in _labels(file)))


def collect_labels(source: str, samples: Iterable[Labels]) -> ParameterSet:
    """Parameters of labels. Raises PriorDataError if no sample has 3D labels, or their bodies differ."""
    hands: dict[str, list[np.ndarray]] = {"hand_pose": [], "hand_betas": []}
    heads: dict[str, list[np.ndarray]] = {"head_jaw": [], "head_expression": [], "head_betas": []}
    models: dict[str, set[str]] = {"hand_model": set(), "head_model": set()}
    for labels in samples:
        if labels.hand_pose is not None and labels.hand_betas is not None:
            left = labels.hand_side is not None and labels.hand_side[0] == LEFT
            hands["hand_pose"].append((labels.hand_pose * ([1, -1, -1] if left else 1)).ravel())
            hands["hand_betas"].append(labels.hand_betas)
            models["hand_model"].add(labels.hand_model or "")
        if labels.head_pose is not None and labels.head_betas is not None and labels.head_expression is not None:
            # Joint 1 of both readings: (root, jaw) of Decaf's, (neck, jaw, eyes) of the others.
            heads["head_jaw"].append(labels.head_pose[1])
            heads["head_expression"].append(labels.head_expression)
            heads["head_betas"].append(labels.head_betas)
            models["head_model"].add(labels.head_model or "")
    if not hands["hand_pose"] and not heads["head_jaw"]:
        raise PriorDataError(f"{source}: no sample has body parameters; priors need shards with 3D labels")
    for name, found in models.items():
        if len(found) > 1:
            raise PriorDataError(f"{source}: samples of different bodies, {name} is one of {', '.join(sorted(found))}")
    arrays = {name: np.stack(rows).astype(np.float32) for name, rows in (hands | heads).items() if rows}
    names = {name: next(iter(found), "") or None for name, found in models.items()}
    return ParameterSet(source, **arrays, hand_model=names["hand_model"], head_model=names["head_model"])


def _labels(uri: str) -> Iterable[Labels]:
    for key, members in read_shard(uri):
        try:
            yield decode_labels(members["safetensors"])
        except (SampleError, KeyError) as error:
            raise PriorDataError(f"{uri}: sample {key}: {error}") from error


def _hands_mean(hand_body: str, file: Path) -> np.ndarray:
    """The mean pose (45,) of the network's hand body."""
    from handface.model.bodies import load_arrays

    mean = load_arrays(hand_body).pose_mean if hand_body else None
    if mean is None:
        raise PriorDataError(
            f"{file}: FreiHAND's poses start from MANO's mean pose, which {hand_body or 'the body'} does not have; give the"
            " imported MANO_RIGHT.npz as hand body"
        )
    return np.asarray(mean, np.float64)
