"""Network output -> people in the photo: meshes about the head's mean, the photo's camera, left hands mirrored back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from handface.model.bodies.arrays import BodyArrays
from handface.model.bodies.convention import named_convention
from handface.model.bodies.load import load_arrays, load_body
from handface.model.bodies.mirror import mirror_head_parameters
from handface.model.bodies.names import HEAD_MIRROR_JOINTS, IBUG_MIRROR
from handface.model.network.config import DiceConfig
from handface.model.network.mesh import Mesh, MeshChoice
from handface.model.network.output import DiceOutput, PartOutput
from handface.model.network.topology import PartSizes, TopologyError
from handface.model.prediction.crop import Crop
from handface.model.prediction.prediction import Detection, Floats, Part, Person, WeakCamera

_FLIP = np.array([-1, 1, 1], np.float32)
_AXIAL = np.array([1, -1, -1], np.float32)
_FREE = ("free-hand", "free-head")


@dataclass(frozen=True)
class NamedBody:
    """A body's arrays, and what it is called in results."""

    arrays: BodyArrays
    name: str
    convention: str
    pose_joints: tuple[int, ...]


class PersonDecoder:
    """Turns DiceOutput into `Person`s. hand, head: body files, if not those that the network names.  mesh: which one people get.

    Raises BodyFileError if a body cannot be read, TopologyError if it is not the one the network was made for.
    """

    def __init__(
        self, network: DiceConfig, hand: str | None = None, head: str | None = None, mesh: Mesh = "parametric"
    ) -> None:
        sizes = network.sizes
        self.hand = _load("hand", sizes.hand, hand)
        self.head = _load("head", sizes.head, head)
        bodies = (load_body(body.name, body.convention) for body in (self.hand, self.head))
        self.choose_mesh = MeshChoice(mesh, network, *bodies)
        self._pose = MeshChoice("parametric", network, self.choose_mesh.hand, self.choose_mesh.head)

    def decode(
        self,
        output: DiceOutput,
        crops: Sequence[Crop],
        detections: Sequence[Detection | None],
        confidences: Sequence[float],
    ) -> list[Person]:
        """One person per crop. output: B predictions for B crops."""
        flat = {name: value.float().cpu() for name, value in output.flatten().items()}
        output = DiceOutput.unflatten(flat)
        posed = self._pose(output) if self.choose_mesh.mesh == "drawn" else None
        output = self.choose_mesh(output)
        origin = output.head.vertices[0].mean(1)  # (B, 3)
        shift = output.camera[:, :1] * (origin - output.camera_origin)[:, :2]  # (B, 2), the camera about `origin`
        translation = output.camera[:, 1:] + shift
        persons = []
        for row, (crop, detection, confidence) in enumerate(zip(crops, detections, confidences, strict=True)):
            scale, (tx, ty) = float(output.camera[row, 0]), translation[row].tolist()
            hand = _part(output.hand, row, origin[row], self.hand, None if posed is None else posed.hand)
            head = _part(output.head, row, origin[row], self.head, None if posed is None else posed.head)
            if crop.side == "left":
                hand, head = mirrored_hand(hand), mirrored_head(head, self.head)
                tx = crop.pixels.shape[1] - 1 - tx
            persons.append(
                Person(
                    hand=hand,
                    head=head,
                    side=crop.side,
                    camera=photo_camera(WeakCamera(scale, tx, ty), crop),
                    presence=float(output.presence[row]),
                    confidence=confidence,
                    crop=crop.affine,
                    detection=detection,
                )
            )
        return persons


def photo_camera(camera: WeakCamera, crop: Crop) -> WeakCamera:
    """A camera in (unmirrored) crop pixels -> in photo pixels; the crop's affine only scales and shifts."""
    zoom = float(crop.affine[0, 0])
    return WeakCamera(
        camera.scale * zoom, camera.tx * zoom + float(crop.affine[0, 2]), camera.ty * zoom + float(crop.affine[1, 2])
    )


def mirrored_hand(part: Part) -> Part:
    """A hand in the mirror x -> -x: the other side's body, vertex for vertex."""
    parameters = {name: _mirror_vector(name, value) for name, value in part.parameters.items()}
    return replace(
        part,
        vertices=part.vertices * _FLIP,
        faces=part.faces[:, [0, 2, 1]],
        keypoints_3d=part.keypoints_3d * _FLIP,
        deformation=part.deformation * _FLIP,
        parameters=parameters,
        offset=None if part.offset is None else part.offset * _FLIP,
    )


def mirrored_head(part: Part, body: NamedBody) -> Part:
    """A head in the mirror x -> -x. Its vertices exchange sides if the body says which is opposite which."""
    mirror = body.arrays.mirror
    turned = mirrored_hand(part)
    turned = replace(turned, keypoints_3d=turned.keypoints_3d[list(IBUG_MIRROR)])
    parameters = dict(turned.parameters)
    if mirror is not None and mirror.betas is not None and mirror.expression is not None:
        names = ("betas", "expression", "pose")
        betas, expression, pose = (torch.from_numpy(part.parameters[name])[None] for name in names)
        found = mirror_head_parameters(body.arrays, betas, expression, pose, body.pose_joints)
        parameters |= {name: value[0].numpy() for name, value in zip(names, found, strict=True)}
    else:
        parameters = {name: parameters[name] for name in ("pose", "global_orient", "transl")}
        parameters["pose"] = _at_opposite_joints(parameters["pose"], body.pose_joints)
    if mirror is None:
        return replace(turned, parameters=parameters)
    opposite = np.asarray(mirror.vertices)
    return replace(
        turned,
        vertices=turned.vertices[opposite],
        faces=part.faces,
        contact=part.contact[opposite],
        deformation=turned.deformation[opposite],
        parameters=parameters,
        offset=None if turned.offset is None else turned.offset[opposite],
    )


def _at_opposite_joints(pose: Floats, pose_joints: tuple[int, ...]) -> Floats:
    """Rotations (3 n,) that were mirrored already, each at the joint of the other side."""
    order = [pose_joints.index(HEAD_MIRROR_JOINTS[joint]) for joint in pose_joints]
    return pose.reshape(-1, 3)[order].ravel()


def _mirror_vector(name: str, value: Floats) -> Floats:
    if name in ("pose", "global_orient"):
        return (value.reshape(-1, 3) * _AXIAL).ravel()
    return value * _FLIP if name == "transl" else value


def _part(output: PartOutput, row: int, origin: torch.Tensor, body: NamedBody, posed: PartOutput | None) -> Part:
    """One row of the network's answer, about `origin` (3,). posed: the bodies that the parameters pose, if `output` is not they."""
    vertices = output.deformed[row] - origin
    deformation = output.deformation[0][row] if output.deformation else torch.zeros_like(vertices)
    parameters = {name: value[row].numpy() for name, value in output.parameters._asdict().items() if value.shape[1]}
    parameters["transl"] = parameters["transl"] - origin.numpy()
    return Part(
        vertices=vertices.numpy(),
        faces=body.arrays.faces.astype(np.int64),
        keypoints_3d=(output.keypoints[row] - origin).numpy(),
        contact=output.contact[row].numpy(),
        deformation=deformation.numpy(),
        parameters=parameters,
        body=body.name,
        convention=body.convention,
        offset=None if posed is None else (output.vertices[0][row] - posed.vertices[0][row]).numpy(),
    )


def _load(kind: str, sizes: PartSizes, given: str | None) -> NamedBody:
    name = given or sizes.body
    if not name or (name not in _FREE and not name.endswith(".npz")):
        raise TopologyError(
            f"the checkpoint does not say where its {kind} ({name or 'unnamed'}) is: give the imported body file (.npz) as `{kind}`"
        )
    arrays = load_arrays(name)
    found = {"vertices": len(arrays.template), "betas": arrays.num_betas, "expression": arrays.num_expressions}
    wanted = {"vertices": sizes.vertices[0], "betas": sizes.betas, "expression": sizes.expression}
    if arrays.kind != kind or found != wanted:
        differences = ", ".join(f"{key} {wanted[key]} != {found[key]}" for key in wanted if wanted[key] != found[key])
        raise TopologyError(
            f"the network was made for the {kind} {sizes.body or '(unnamed)'} but was given the {arrays.kind} {name}"
            f"{': ' + differences if differences else ''}; give the body it was made for"
        )
    joints = named_convention(sizes.convention, kind).pose_joints or tuple(range(1, len(arrays.parents)))
    return NamedBody(arrays, name, sizes.convention, joints)
