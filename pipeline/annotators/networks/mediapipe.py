"""MediaPipe's networks with what goes before and after them; each takes many crops of many pictures in one call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators.networks.regions import NetworkPicture, Region, turned_region
from handface.pipeline.annotators.networks.runtime import Network, RuntimeConfig
from handface.pipeline.annotators.networks.ssd import SsdDetection, decode, make_anchors, sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

Crop = tuple[NetworkPicture, Region]  # a picture and the part of it to look at

_IRIS_RINGS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
)


@dataclass(frozen=True)
class FoundFace:
    """A face as a detector sees it, in picture coordinates: box, six keypoints (6, 2), score, and the mesh's crop."""

    box: tuple[float, float, float, float]
    keypoints: NDArray[np.float32]
    score: float
    region: Region


@dataclass(frozen=True)
class FoundPalm:
    """A palm, in picture coordinates: seven keypoints (7, 2), score, and the crop for the hand landmarks."""

    keypoints: NDArray[np.float32]
    score: float
    region: Region


@dataclass(frozen=True)
class FoundMesh:
    """points: (478, 3) float32 x, y in picture coordinates and z in picture pixels.  score: that this is a face."""

    points: NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class FoundHand:
    """A hand in a crop.

    points: (21, 3) float32 x, y in picture coordinates and z in picture pixels, 0 at the wrist.  world: (21, 3) metres
    about the hand's centre, along the picture's axes.  score: that this is a hand.  right: that it is the person's right.
    """

    points: NDArray[np.float32]
    world: NDArray[np.float32]
    score: float
    right: float


class SsdNetwork:
    """A detection network: proposals in each crop.

    Args:
        network: gives `boxes` and `scores`, the names of two of its outputs.
        strides: of the layers of anchors.
        per_cell: anchors that a layer adds to each cell.
        span: pixel values 0 to 255 become this range.
    """

    def __init__(
        self,
        network: Network,
        names: tuple[str, str],
        strides: tuple[int, ...],
        per_cell: int,
        span: tuple[float, float],
    ) -> None:
        self.network, self.names, self.span = network, names, span
        self.size = network.input_size
        self.anchors = make_anchors(self.size[0], strides, per_cell)

    def __call__(self, crops: Sequence[Crop], threshold: float) -> list[list[SsdDetection]]:
        """Detections of each crop, relative to the crop, those under the threshold left out."""
        outputs = self.network(_cut_all(crops, self.size, self.span, replicate=False))
        boxes, scores = (outputs[name] for name in self.names)
        return [decode(boxes[i], scores[i, :, 0], self.anchors, self.size[0], threshold) for i in range(len(crops))]


class FaceDetector:
    """BlazeFace: faces up to about two metres away (short range) or five (full range)."""

    def __init__(self, network: Network, full_range: bool) -> None:
        if full_range:
            self.ssd = SsdNetwork(network, ("Identity", "Identity_1"), (4,), 1, (-1, 1))
        else:
            self.ssd = SsdNetwork(network, ("regressors", "classificators"), (8, 16, 16, 16), 2, (-1, 1))

    def __call__(self, crops: Sequence[Crop], threshold: float) -> list[list[FoundFace]]:
        """Faces in each crop, the surest first."""
        found = self.ssd(crops, threshold)
        return [
            [self._face(region, detection) for detection in detections]
            for (_, region), detections in zip(crops, found, strict=True)
        ]

    def _face(self, region: Region, detection: SsdDetection) -> FoundFace:
        # between the eyes, level in the crop
        inner = turned_region(detection.box, detection.keypoints[0], detection.keypoints[1], 0.0, 1.5)
        return FoundFace(
            _picture_box(region, detection.box),
            region.to_picture(detection.keypoints),
            detection.score,
            region.place(inner),
        )


class PalmDetector:
    """BlazePalm: palms, with the direction of the hand."""

    def __init__(self, network: Network) -> None:
        self.ssd = SsdNetwork(network, ("Identity", "Identity_1"), (8, 16, 16, 16), 2, (0, 1))

    def __call__(self, crops: Sequence[Crop], threshold: float) -> list[list[FoundPalm]]:
        """Palms in each crop, the surest first."""
        found = self.ssd(crops, threshold)
        return [
            [self._palm(region, detection) for detection in detections]
            for (_, region), detections in zip(crops, found, strict=True)
        ]

    def _palm(self, region: Region, detection: SsdDetection) -> FoundPalm:
        # from the wrist to the middle finger's knuckle, up in the crop; the crop lies over the fingers
        inner = turned_region(detection.box, detection.keypoints[0], detection.keypoints[2], math.pi / 2, 2.6, -0.5)
        return FoundPalm(region.to_picture(detection.keypoints), detection.score, region.place(inner))


class FaceMesh:
    """The face mesh with attention: 468 points, of which lips and eyes are refined, and two irises of five."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, crops: Sequence[Crop]) -> list[FoundMesh]:
        """A mesh and a score for each crop."""
        outputs = self.network(_cut_all(crops, self.network.input_size, (0, 1), replicate=True))
        scores = sigmoid(outputs["conv_faceflag"].reshape(-1))
        return [
            FoundMesh(self._points({name: values[i] for name, values in outputs.items()}, region), float(scores[i]))
            for i, (_, region) in enumerate(crops)
        ]

    @cached_property
    def _subsets(self) -> list[list[int]]:
        """Numbers of the points of lips, left eye and right eye, from the network itself."""
        operators = self.network.graph.operators
        return [list(o.options["subset_idxs"]) for o in operators if o.kind == "Landmarks2TransformMatrix"]

    def _points(self, outputs: dict[str, NDArray[np.float32]], region: Region) -> NDArray[np.float32]:
        points = np.zeros((478, 3), np.float32)
        points[:468] = outputs["output_mesh_identity"].reshape(468, 3)
        depth = points[:, 2].copy()  # as the mesh has it: refined points keep it, an iris takes its eyelids' mean
        for name, subset in zip(("lips", "left_eye", "right_eye"), self._subsets, strict=True):
            points[subset, :2] = outputs[f"output_{name}"].reshape(-1, 2)
        for name, first, ring in zip(("left", "right"), (468, 473), _IRIS_RINGS, strict=True):
            points[first : first + 5, :2] = outputs[f"output_{name}_iris"].reshape(5, 2)
            points[first : first + 5, 2] = depth[list(ring)].mean()
        return _to_picture(points, region, self.network.input_size[0])


class HandLandmarks:
    """Hand landmarks: 21 points in the picture and in metres, whether it is a hand, and which."""

    Z_SCALE = 0.4  # the network's z is that much smaller than its x and y

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, crops: Sequence[Crop]) -> list[FoundHand]:
        """A hand for each crop, however unlike one it looks: read the score."""
        outputs = self.network(_cut_all(crops, self.network.input_size, (0, 1), replicate=True))
        return [
            self._hand({name: values[i] for name, values in outputs.items()}, crop[1]) for i, crop in enumerate(crops)
        ]

    def _hand(self, outputs: dict[str, NDArray[np.float32]], region: Region) -> FoundHand:
        points = outputs["Identity"].reshape(21, 3) * np.array([1, 1, 1 / self.Z_SCALE], np.float32)
        world = outputs["Identity_3"].reshape(21, 3).copy()
        world[:, :2] = world[:, :2] @ (region.affine((1, 1))[:, :2] / region.width).T
        # The network says how much the crop looks like a left hand in a selfie, so a right one in an ordinary photo.
        right = float(outputs["Identity_2"][0])
        right = 1 - right if region.mirrored else right
        return FoundHand(
            _to_picture(points, region, self.network.input_size[0]), world, float(outputs["Identity_1"][0]), right
        )


class SkinSegmenter:
    """The selfie multiclass segmenter: six classes, of each crop squeezed into a square."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, crops: Sequence[Crop]) -> NDArray[np.float32]:
        """(N, 256, 256, 6) scores of the classes, not normalised."""
        return self.network(_cut_all(crops, self.network.input_size, (-1, 1), replicate=True))["Identity"]


def open_network(name: str, config: RuntimeConfig = RuntimeConfig(), outputs: tuple[str, ...] = ()) -> Network:
    """A network of the model store, fetched if need be. Raises ModelError or NetworkError."""
    from handface.pipeline.contract.model_store import ModelStore

    return Network(ModelStore().path(name), config, outputs)


def _cut_all(
    crops: Sequence[Crop], size: tuple[int, int], span: tuple[float, float], replicate: bool
) -> NDArray[np.float32]:
    """(N, H, W, 3) float32, 0 to 255 stretched to `span`."""
    batch = np.empty((len(crops), size[1], size[0], 3), np.float32)
    for row, (picture, region) in zip(batch, crops, strict=True):
        row[...] = picture.cut_out(region, size, replicate)
    batch *= np.float32((span[1] - span[0]) / 255)
    batch += np.float32(span[0])
    return batch


def _picture_box(region: Region, box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """The upright box around a crop's box in the picture."""
    corners = np.array([(box[i], box[j]) for i in (0, 2) for j in (1, 3)], np.float32)
    placed = region.to_picture(corners)
    low, high = placed.min(0).tolist(), placed.max(0).tolist()
    return low[0], low[1], high[0], high[1]


def _to_picture(points: NDArray[np.float32], region: Region, size: int) -> NDArray[np.float32]:
    """(N, 3) in network pixels -> picture coordinates, z at the same scale as x."""
    relative = points / np.float32(size)
    return np.column_stack([region.to_picture(relative[:, :2]), relative[:, 2] * region.width]).astype(np.float32)
