"""The photos of `handface predict`, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from handface.predict.inputs import Input, InputError, PhotoReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handface.model.prediction.prediction import Prediction
    from handface.model.prediction.predictor import Predictor


def predict_photos(
    predictor: Predictor, photos: Sequence[Input]
) -> Iterator[tuple[Input, tuple[NDArray[np.uint8], Prediction] | str]]:
    """Each photo with its pixels and prediction, or with the reason why there is none; holds one batch of them at a time."""
    batch = predictor.config.batch
    with PhotoReader() as reader:
        for start in range(0, len(photos), batch):
            some = photos[start : start + batch]
            read: dict[str, NDArray[np.uint8]] = {}
            answers: dict[str, tuple[NDArray[np.uint8], Prediction] | str] = {}
            for one in some:
                try:
                    read[one.stem] = reader(one.item)
                except InputError as error:
                    answers[one.stem] = str(error)
            for stem, answer in zip(read, _predict_all(predictor, list(read.values())), strict=True):
                answers[stem] = answer if isinstance(answer, str) else (read[stem], answer)
            yield from ((one, answers[one.stem]) for one in some)


def _predict_all(predictor: Predictor, images: Sequence[NDArray[np.uint8]]) -> list[Prediction | str]:
    """Together; if that fails one by one, so that a photo on which the detector dies costs only itself."""
    from handface.pipeline.annotators.analyser import DetectorError

    try:
        return list(predictor.predict_many(images))
    except DetectorError as error:
        if len(images) == 1:
            return [f"the detector failed: {error}"]
        return [answer for image in images for answer in _predict_all(predictor, [image])]
