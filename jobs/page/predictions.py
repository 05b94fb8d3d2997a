"""The page over all predictions of a run: index.html, and in `page/` what it loads, all of it local files.

Pictures and meshes are written photo by photo and loaded when they are seen or asked for, so that neither this process nor the
browser ever holds them all. A mesh is a script that hands over its bytes: pages opened from disk may not fetch files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.jobs.page.answers import encode_viewer_mesh

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handface.model.prediction.prediction import Person, Prediction

FOLDER = "page"
_SIDE, _MAP_WIDTH = 360, 1100  # pixels of a crop and of a contact map
_MARGIN = 0.15  # of the meshes, around them


class PredictionsPage:
    """Collects what the page shows. folder: where predictions are written."""

    def __init__(self, folder: Path, trained: bool) -> None:
        self.folder, self.trained = folder, trained
        self._photos: list[dict[str, Any]] = []

    def add(
        self,
        name: str,
        stem: str,
        image: NDArray[np.uint8],
        overlay: NDArray[np.uint8],
        prediction: Prediction,
        contact_maps: list[NDArray[np.uint8]],
        downloads: list[str],
    ) -> None:
        """Write a photo's pictures and meshes. overlay: without a banner, perhaps smaller than the photo.  downloads: file names."""
        from handface.model.outputs.trust import describe_person

        (self.folder / FOLDER).mkdir(exist_ok=True)
        hands = []
        for index, (person, contact) in enumerate(zip(prediction.persons, contact_maps, strict=True)):
            label = f"{stem}_{index}"
            box = _person_box(person, prediction.width, prediction.height)
            self._write_picture(f"{label}_photo", _cut(image, box, prediction.width), _SIDE)
            self._write_picture(f"{label}_overlay", _cut(overlay, box, prediction.width), _SIDE)
            self._write_picture(f"{label}_contact", contact, _MAP_WIDTH)
            mesh = base64.b64encode(encode_viewer_mesh(person)).decode()
            script = f"handfaceMesh({json.dumps(label)}, {json.dumps(mesh)});\n"
            (self.folder / FOLDER / f"{label}.js").write_text(script)
            hands.append({"label": label} | describe_person(person, prediction.trained))
        found = {"people": len(set(prediction.faces)), "hands": hands}
        self._photos.append({"name": name, "reason": prediction.reason, "files": downloads} | found)

    def write(self, failed: dict[str, str]) -> Path:
        """Write index.html. failed: input -> why it could not be read."""
        package = files("handface.jobs.page")
        style, viewer, script, template = (
            (package / name).read_text(encoding="utf-8")
            for name in ("predictions.css", "viewer.js", "predictions.js", "predictions.html")
        )
        # One inline module: a page opened from disk may not import another file.
        module = f"{viewer}\n{script}"
        data = {"trained": self.trained, "photos": self._photos, "failed": failed}
        values = {
            "STYLE": style,
            "STYLE_HASH": _hash(style),
            "SCRIPT": module,
            "SCRIPT_HASH": _hash(module),
            # JSON that cannot end the script element it stands in
            "DATA": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        }
        path = self.folder / "index.html"
        path.write_text(re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], template), encoding="utf-8")
        return path

    def _write_picture(self, label: str, pixels: NDArray[np.uint8], longest: int) -> None:
        from PIL import Image

        picture = Image.fromarray(pixels)
        picture.thumbnail((longest, longest))
        picture.save(self.folder / FOLDER / f"{label}.jpg", quality=85)


def _person_box(person: Person, width: int, height: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 around both meshes inside the photo, pixels; the whole photo where they cannot be seen in it."""
    points = person.camera.project(np.concatenate([person.hand.vertices, person.head.vertices]))
    if not np.isfinite(points).all():
        return 0, 0, width, height
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, (0.5 + _MARGIN) * float((high - low).max())
    x0, y0 = np.clip(np.floor(middle - half), 0, [width, height]).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(middle + half), 0, [width, height]).astype(int).tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else (0, 0, width, height)


def _cut(image: NDArray[np.uint8], box: tuple[int, int, int, int], width: int) -> NDArray[np.uint8]:
    """The box of a picture that may be smaller than the photo it is of. width: the photo's."""
    zoom = image.shape[1] / width
    x0, y0, x1, y1 = (round(zoom * value) for value in box)
    return np.ascontiguousarray(image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
