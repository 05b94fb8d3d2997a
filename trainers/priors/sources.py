"""`read_parameters`: real parameters from whatever a path names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from handface.model.bodies.load import FREE, load_arrays
from handface.pipeline.contract.sample import LEFT, Labels, SampleError, decode_labels
from handface.pipeline.contract.shards import find_shards, read_shard
from handface.trainers.data.bodies import DECAF_SUFFIX
from handface.trainers.priors.freihand import MANO_FILE, read_freihand
from handface.trainers.priors.parameters import ParameterSet, PriorDataError
from handface.trainers.priors.renderme import read_renderme


def read_parameters(path: str, hand_body: str = "", mean_pose: bool = True, head_body: str = "") -> ParameterSet:
    """Real parameters from shards, FreiHAND, RenderMe-360 or a parameter file; which of them, the name tells.

    path: `.safetensors`; `.smc` or a folder of them; FreiHAND's folder or `training_mano.json`; otherwise shards: a tar, a folder
    of tars or a glob, local or fsspec URI.  hand_body: an imported MANO, whose mean pose FreiHAND's poses start from.
    head_body: mirrors the faces beside left hands; without it, the free head mirrors its own.
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
    return read_shards(path, head_body)


def read_shards(path: str, head_body: str = "") -> ParameterSet:
    """Parameters of all samples with 3D labels. Scenes of left hands are mirrored, as the pictures are that the network sees."""
    try:
        found = find_shards([path])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no shards, parameter file, FreiHAND folder or .smc there") from error
    return collect_labels(path, (labels for file in found for labels in _labels(file)), head_body)


def collect_labels(source: str, samples: Iterable[Labels], head_body: str = "") -> ParameterSet:
    """Parameters of labels, all as of right hands. Raises PriorDataError if no sample has 3D labels, or their bodies differ."""
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
            face = labels.head_pose[1], labels.head_expression, labels.head_betas
            if labels.hand_side is not None and len(labels.hand_side) and labels.hand_side[0] == LEFT:
                face = _mirror_face(*face, head_body or (labels.head_model or "").removesuffix(DECAF_SUFFIX))
            for name, value in zip(heads, face, strict=True):
                heads[name].append(value)
            models["head_model"].add(labels.head_model or "")
    if not hands["hand_pose"] and not heads["head_jaw"]:
        raise PriorDataError(f"{source}: no sample has body parameters; priors need shards with 3D labels")
    for name, found in models.items():
        if len(found) > 1:
            raise PriorDataError(f"{source}: samples of different bodies, {name} is one of {', '.join(sorted(found))}")
    arrays = {name: np.stack(rows).astype(np.float32) for name, rows in (hands | heads).items() if rows}
    names = {name: next(iter(found), "") or None for name, found in models.items()}
    return ParameterSet(source, **arrays, hand_model=names["hand_model"], head_model=names["head_model"])


def _mirror_face(
    jaw: np.ndarray, expression: np.ndarray, betas: np.ndarray, body: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Jaw (3,), expression (E,) and betas (S,) of the mirror image; as they are if the body cannot say what they are there."""
    found = _mirror_map(body)
    if found is None or len(found[0]) != len(expression):
        return jaw, expression, betas
    order, signs = found
    return jaw * [1, -1, -1], expression[order], betas * signs[: len(betas)]


@lru_cache
def _mirror_map(body: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Order of the expression and signs of the betas in the mirror image of a head; None where the body does not know them."""
    if body not in FREE and not Path(body).is_file():
        return None
    mirror = load_arrays(body).mirror
    if mirror is None or mirror.betas is None or mirror.expression is None:
        return None
    return mirror.expression.astype(np.int64), np.asarray(mirror.betas)


def _labels(uri: str) -> Iterable[Labels]:
    for key, members in read_shard(uri):
        try:
            yield decode_labels(members["safetensors"])
        except (SampleError, KeyError) as error:
            raise PriorDataError(f"{uri}: sample {key}: {error}") from error


def _hands_mean(hand_body: str, file: Path) -> np.ndarray:
    """The mean pose (45,) of the network's hand body."""
    mean = load_arrays(hand_body).pose_mean if hand_body else None
    if mean is None:
        raise PriorDataError(
            f"{file}: FreiHAND's poses start from MANO's mean pose, which {hand_body or 'the body'} does not have; give the"
            " imported MANO_RIGHT.npz as hand body"
        )
    return np.asarray(mean, np.float64)
