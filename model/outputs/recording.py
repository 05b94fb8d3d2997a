"""A Rerun recording of a prediction, to be turned and scrubbed in the Rerun viewer (extra `rerun`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handface.extras import extra
from handface.model.outputs.colours import HAND, HEAD
from handface.model.outputs.mesh_files import NOTE, upright
from handface.model.prediction.prediction import Prediction


def write_recording(path: Path, image: NDArray[np.uint8], prediction: Prediction) -> None:
    """Write photo and meshes, contact in their colours, as one `.rrd` file. image: (H, W, 3) RGB.

    Raises ImportError that says what to install.
    """
    with extra("rerun", "a Rerun recording"):
        import rerun
    recording = rerun.RecordingStream("handface", recording_id=path.stem)
    recording.save(str(path))
    recording.log("photo", rerun.Image(image), static=True)
    if not prediction.trained:
        recording.log("notice", rerun.TextDocument(NOTE), static=True)
    for index, person in enumerate(prediction.persons):
        for name, part, ramp in (("hand", person.hand, HAND), ("head", person.head, HEAD)):
            mesh = rerun.Mesh3D(
                vertex_positions=upright(part.vertices),
                triangle_indices=part.faces.astype(np.uint32),
                vertex_colors=ramp.colours(part.contact),
            )
            recording.log(f"people/{index}/{name}", mesh, static=True)
    recording.flush()
    recording.disconnect()
