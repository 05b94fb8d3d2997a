"""A person's parameters under the argument names of the MANO, FLAME and SMPL-X layers of the `smplx` package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.convention import named_convention
from handface.model.bodies.names import HEAD_JOINTS
from handface.model.prediction.prediction import Floats, Part, Person

_LAYER_NAMES = {"neck": "neck_pose", "jaw": "jaw_pose", "left_eye": "leye_pose", "right_eye": "reye_pose"}


def named_parameters(person: Person) -> dict[str, NDArray[Any]]:
    """Arrays (1, n), one batch of one, as the layers take them: `mano_*`, `flame_*` and `smplx_*`.

    mano: betas, hand_pose, global_orient, transl.  flame: betas, expression, neck_pose, jaw_pose, leye_pose, reye_pose, global_orient,
    transl; joints that the convention does not turn are zero.  smplx: what a whole body takes over: right_hand_pose or
    left_hand_pose, jaw_pose, leye_pose, reye_pose, expression; its betas are of another space and left out.
    The numbers are MANO's and FLAME's where these are the bodies: `mano_body`, `flame_body` and the conventions say which.
    A rotation of the root that Decaf's head pose holds is `flame_root_pose`.
    """
    hand, head = dict(person.hand.parameters), dict(person.head.parameters)
    mano: dict[str, NDArray[Any] | None] = {"hand_pose": hand.pop("pose", None), **hand}
    joints = _head_pose(person.head)
    head.pop("pose", None)
    flame = head | joints
    whole: dict[str, Floats | None] = {
        name: joints[name] for name in ("jaw_pose", "leye_pose", "reye_pose") if name in joints
    }
    whole |= {f"{person.side}_hand_pose": mano["hand_pose"], "expression": head.get("expression")}
    named: dict[str, NDArray[Any]] = {}
    for layer, values in (("mano", mano), ("flame", flame), ("smplx", whole)):
        named |= {
            f"{layer}_{name}": np.asarray(one, np.float32)[None] for name, one in values.items() if one is not None
        }
    for layer, part in (("mano", person.hand), ("flame", person.head)):
        named |= {f"{layer}_body": np.array(part.body), f"{layer}_convention": np.array(part.convention)}
    return named | {"mano_is_rhand": np.array(person.side == "right")}


def write_parameters(path: Path, person: Person, trained: bool) -> None:
    """`named_parameters` as an npz without pickle; `trained` is in it."""
    np.savez_compressed(path, allow_pickle=False, trained=np.array(trained), **named_parameters(person))


def _head_pose(head: Part) -> dict[str, Floats]:
    """The head's pose by joint, (3,) axis-angle each. Empty if the prediction holds no pose."""
    if (pose := head.parameters.get("pose")) is None:
        return {}
    turned = named_convention(head.convention, "head").pose_joints or tuple(range(1, len(HEAD_JOINTS)))
    found = {name: np.zeros(3, np.float32) for name in _LAYER_NAMES.values()}
    for joint, angles in zip(turned, pose.reshape(-1, 3), strict=True):
        found[_LAYER_NAMES.get(HEAD_JOINTS[joint], "root_pose")] = angles
    return found
