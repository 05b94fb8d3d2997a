"""A prediction as a set of files: numbers, arrays, meshes, exports and pictures, all named after one name."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

import numpy as np

from handface.model.outputs.coco import to_coco
from handface.model.outputs.contact_map import draw_contact_map
from handface.model.outputs.mesh_files import encode_mesh
from handface.model.outputs.overlay import OverlayConfig, draw_overlay
from handface.model.outputs.parameters import write_parameters
from handface.model.outputs.records import write_record
from handface.model.prediction.prediction import Prediction


def save_prediction(prediction: Prediction, folder: Path, name: str) -> list[Path]:
    """See `Prediction.save`."""
    from PIL import Image

    if not name or PurePath(name).name != name or "\\" in name or name == "..":
        raise ValueError(f"name is {name!r}: it must be a plain file name, without folders")
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, name, name, prediction)
    written = [folder / f"{name}.json", folder / f"{name}.npz"]

    def add(file: str) -> Path:
        written.append(folder / file)
        return written[-1]

    pictures: list[tuple[str, np.ndarray]] = []
    if prediction.image is not None:
        pictures.append((f"{name}.png", draw_overlay(prediction.image, prediction, OverlayConfig())))
    for index, person in enumerate(prediction.persons):
        add(f"{name}_{index}.glb").write_bytes(encode_mesh(person, "glb", prediction.trained))
        write_parameters(add(f"{name}_{index}_parameters.npz"), person, prediction.trained)
        pictures.append((f"{name}_{index}_contact.png", draw_contact_map(person, prediction.trained)))
    for file, pixels in pictures:
        Image.fromarray(pixels).save(add(file))
    add(f"{name}_coco.json").write_text(json.dumps(to_coco([(name, prediction)]), allow_nan=False) + "\n")
    return written
