"""How deep the points of a photo's people lie, as Depth Anything sees each of them. It tells how far the hand is from the face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from handface.model.prediction.prediction import PointDepth
from handface.model.prediction.view import crop_box, square
from handface.pipeline.stages.crop import CropConfig
from handface.pipeline.stages.depth import DepthConfig, load_annotators, person_depth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handface.predict.people import HandAtFace


class DepthOfPeople:
    """Looks at a crop around each person, as `handface annotate` does. The network is loaded at once.

    config: names Depth Anything's checkpoint. Raises DepthWeightsError if that cannot be used, ValueError for a side that cannot be.
    """

    def __init__(self, config: DepthConfig) -> None:
        self.config = config
        (self._network,) = load_annotators(config)

    def __call__(
        self, image: NDArray[np.uint8], people: Sequence[HandAtFace], skin: NDArray[np.uint8] | None
    ) -> list[PointDepth]:
        """The points' depth of each person of a photo (H, W, 3) RGB; skin: its (H, W) class map or None."""
        height, width = image.shape[:2]
        crop = CropConfig()
        boxes = [crop_box(one.face.box, one.hand.box, crop.margin, width, height) for one in people]
        views = [square(image, box, min(crop.max_side, round(box[2] - box[0])), border=(0, 0, 0)) for box in boxes]
        maps = self._network.annotate([view.pixels for view in views])
        depths = []
        for one, view, depth in zip(people, views, maps, strict=True):
            # both hands of a face hide it
            hands = [one.hand, *(other.hand for other in people if other.face is one.face and other is not one)]
            to_crop = np.linalg.inv(np.vstack([view.affine, [0.0, 0.0, 1.0]]))
            (values,) = person_depth([depth], one.face, hands, skin, to_crop, self.config)
            depths.append(PointDepth(values, inverse=self._network.kind == "affine-inverse"))
        return depths
