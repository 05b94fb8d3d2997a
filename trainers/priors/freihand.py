"""FreiHAND's hand parameters (dataset version 2, `training_mano.json`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handface.trainers.priors.parameters import ParameterSet, PriorDataError

MANO_FILE = "training_mano.json"
_POSE, _SHAPE, _ALL = slice(3, 48), slice(48, 58), 61


def read_freihand(file: Path, pose_mean: NDArray[np.floating] | None) -> ParameterSet:
    """Hands of a `*_mano.json`: a list of (1, 61) = pose 48 (root 3 + 45), shape 10, root pixel 2, scale 1; right hands.

    pose_mean: (45,) MANO's hands_mean. FreiHAND's poses are relative to it, the network's to the flat hand, so it is added;
    None leaves them as they are. Raises PriorDataError naming file and entry.
    """
    try:
        entries = json.loads(file.read_bytes())
    except ValueError as error:
        raise PriorDataError(f"{file}: not JSON ({error}); unpack FreiHAND_pub_v2.zip again") from error
    if not isinstance(entries, list) or not entries:
        raise PriorDataError(f"{file}: expected a list of hands, found {type(entries).__name__}")
    rows = np.empty((len(entries), _ALL), np.float64)
    for index, entry in enumerate(entries):
        try:
            rows[index] = np.asarray(entry, np.float64).reshape(_ALL)
        except (ValueError, TypeError) as error:
            raise PriorDataError(
                f"{file}: entry {index} is not {_ALL} numbers (pose 48, shape 10, uv 2, scale 1): {error}; version 1 of the"
                " dataset has another model, take version 2"
            ) from error
    pose = rows[:, _POSE] if pose_mean is None else rows[:, _POSE] + pose_mean
    return ParameterSet(
        str(file),
        hand_pose=pose.astype(np.float32),
        hand_betas=rows[:, _SHAPE].astype(np.float32),
        hand_model="mano",
    )
