"""Decaf as work units: frames of a camera are the inputs, and one stage makes each a sample."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from collections.abc import Sequence as Batch
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.sample import Sample, SampleMeta, Source, sample_key
from handface.pipeline.decaf.config import VERSION, DecafConfig
from handface.pipeline.decaf.layout import DecafError, DecafView
from handface.pipeline.decaf.reader import SubjectReader, find_sequences
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage

if TYPE_CHECKING:
    from handface.pipeline.decaf.labels import DecafBodies

SCHEME = "decaf"
_ORDER_FRAMES = 8  # looked at to tell in which order a camera's hand keys are stored


def list_frames(config: DecafConfig) -> Iterator[SourceItem]:
    """The inputs: frame by frame, camera by camera, subject by subject. Checks each subject first; raises DecafError."""
    for sequence in find_sequences(Path(config.decaf), config.split, config.subjects):
        reader = SubjectReader(sequence, config.cameras)
        for camera in reader.cameras:
            for frame in range(reader.frames):
                yield SourceItem(f"{SCHEME}:{config.split}/{sequence.subject}/{camera}", f"{frame:05d}")


def open_bodies(config: DecafConfig) -> DecafBodies:
    """The bodies of the config or of the dataset's assets. Raises BodyFileError naming the file that is missing or wrong."""
    import torch

    from handface.model.bodies.body import ParametricBody
    from handface.model.bodies.convention import DECAF
    from handface.model.bodies.load import load_arrays
    from handface.model.bodies.readers import read_flame, read_mano
    from handface.pipeline.decaf.labels import DecafBodies

    assets = Path(config.decaf) / "assets"
    if config.hand_model:
        hand = load_arrays(config.hand_model)
    else:
        hand = read_mano(assets / "mano_v1_2" / "models" / "MANO_RIGHT.pkl")
    if config.head_model:
        head = load_arrays(config.head_model)
    else:
        head = read_flame(assets / "generic_model.pkl", assets / "landmark_embedding.npy")
    names = [
        "mano" if not config.hand_model else Path(config.hand_model).stem,
        "flame-decaf" if not config.head_model else f"{Path(config.head_model).stem}-decaf",
    ]
    bodies = [ParametricBody(arrays, DECAF[arrays.kind], torch.float64) for arrays in (hand, head)]
    return DecafBodies(bodies[0], bodies[1], *names)


class ConvertStage(Stage):
    """Makes the sample of each record, whose item names split, subject, camera and frame."""

    name = "decaf"
    version = VERSION
    writes = ("sample",)

    def __init__(self, config: DecafConfig) -> None:
        self.config = config
        self._seen: set[str] = set()

    def setup(self) -> None:
        """Read the bodies."""
        self._bodies = open_bodies(self.config)
        self._open: tuple[str, _CameraStream] | None = None

    def start_unit(self) -> None:
        """A picture may come twice in different units, never in one."""
        self._seen.clear()

    def __call__(self, batch: Batch[Record]) -> None:
        """Fill record.sample, or reject pictures that equal an earlier one's."""
        seen = set(self._seen)
        for record in batch:
            sample = self._stream(record.item.uri, int(record.item.member or 0)).sample(record.item, self.config)
            if sample.key in seen:
                record.reject(Reason.DUPLICATE, "the same picture as an earlier frame's")
                continue
            seen.add(sample.key)
            record.sample = sample
        self._seen = seen

    def _stream(self, uri: str, frame: int) -> _CameraStream:
        """The stream of a camera that stands at a frame; the one that is open if it does, so that nothing is decoded twice."""
        if self._open is None or self._open[0] != uri or self._open[1].frame != frame:
            self._open = uri, _CameraStream(self.config, uri, frame, self._bodies)
        return self._open[1]


class _CameraStream:
    """Samples of one camera of one subject, in order from `frame` on."""

    def __init__(self, config: DecafConfig, uri: str, frame: int, bodies: DecafBodies) -> None:
        split, subject, self.camera = uri.removeprefix(f"{SCHEME}:").split("/")
        (sequence,) = find_sequences(Path(config.decaf), split, (subject,))
        self.reader = SubjectReader(sequence, (self.camera,))
        self.frame, self.bodies, self.subject = frame, bodies, subject
        self._views = self.reader.views(self.camera, frame)
        with sequence.of_camera("videos", self.camera).open("rb") as video:
            self._sha256 = hashlib.file_digest(video, "sha256").hexdigest()
        self._mano_order = self._stored_in_mano_order()

    def sample(self, item: SourceItem, config: DecafConfig) -> Sample:
        """The next frame's. Raises DecafError if the body models and the dataset have different surfaces."""
        import simplejpeg

        from handface.model.bodies.names import MEDIAPIPE_FROM_POINTS
        from handface.pipeline.decaf.labels import crop_of, cut_out, frame_labels

        view, pose, camera = next(self._views), self.reader.pose(self.frame), self.reader.cameras[self.camera]
        for body, bits in ((self.bodies.head, pose.head_contact), (self.bodies.hand, pose.hand_contact)):
            if body.num_vertices != len(bits):
                kind = body.arrays.kind
                raise DecafError(
                    f"contacts of {self.subject} have {len(bits)} {kind} vertices, the {kind} model {body.num_vertices}"
                )
        if self._mano_order:
            view = replace(view, hand_keys=view.hand_keys[list(MEDIAPIPE_FROM_POINTS)])
        crop = crop_of(view)
        pixels, mask = cut_out(view, crop)
        jpeg = simplejpeg.encode_jpeg(pixels, config.jpeg_quality, colorspace="RGB", colorsubsampling="444")
        labels = frame_labels(self.bodies, pose, view, camera, crop)
        meta = SampleMeta(sample_key(jpeg), self._source(item, view, config), crop, None, ())
        self.frame += 1
        return Sample(jpeg, labels, meta, mask_png=_png(mask))

    def _source(self, item: SourceItem, view: DecafView, config: DecafConfig) -> Source:
        from handface.pipeline.contract.images.phash import hash_hex, perceptual_hash

        columns = {"subject": self.subject, "camera": self.camera, "segment": str(self.reader.segment(self.frame))}
        phash = hash_hex(perceptual_hash(view.image))
        return Source(
            item.uri,
            self._sha256,
            phash,
            member=item.member,
            licence=config.licence,
            author=config.author,
            columns=columns,
        )

    def _stored_in_mano_order(self) -> bool:
        """Which order of hand joints fits the projected ones better, over a few frames of the whole video."""
        from handface.pipeline.decaf.labels import order_error, pose_in_camera
        from handface.pipeline.decaf.reader import clean_keys

        camera, total = self.reader.cameras[self.camera], np.zeros(2)
        keys = self.reader.arrays[self.camera].right_hand_keys
        for frame in np.linspace(0, self.reader.frames - 1, _ORDER_FRAMES).astype(int):
            found = clean_keys(keys[frame])
            if found[:, 2].all():
                seen = pose_in_camera(self.bodies, self.reader.pose(frame), camera).hand_keypoints @ camera.intrinsic.T
                total += order_error(found, seen[:, :2] / seen[:, 2:])
        return bool(total[1] < total[0])


def _png(mask: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()
