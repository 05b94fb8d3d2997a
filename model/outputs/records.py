"""A prediction as files: NAME.json (small, for people and scripts) and NAME.npz (arrays, no pickle), and back again."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.names import KEYPOINTS
from handface.model.prediction.prediction import (
    CONTACT_PROBABILITY,
    Detection,
    Fit,
    Part,
    Person,
    PinholeCamera,
    PointDepth,
    Prediction,
    WeakCamera,
)

SCHEMA = "handface-prediction/2"
_ARRAYS = ("vertices", "faces", "keypoints_3d", "contact", "deformation")


class RecordError(ValueError):
    """A stored prediction cannot be read; the message names the file and what is wrong in it."""


def write_record(folder: Path, stem: str, photo: str, prediction: Prediction) -> None:
    """Write STEM.json and STEM.npz into a folder; docs/predictions.md has every field. photo: how people call it."""
    np.savez_compressed(folder / f"{stem}.npz", allow_pickle=False, **record_arrays(prediction))
    (folder / f"{stem}.json").write_text(json.dumps(to_json(photo, prediction), indent=1, allow_nan=False) + "\n")


def record_arrays(prediction: Prediction) -> dict[str, NDArray[Any]]:
    """What the npz of a prediction holds, by name."""
    arrays: dict[str, NDArray[Any]] = {"trained": np.array(prediction.trained)}
    for index, person in enumerate(prediction.persons):
        arrays[f"person{index}/crop"] = person.crop
        arrays[f"person{index}/camera"] = np.array(camera_numbers(person.camera))
        if person.fit is not None:
            arrays[f"person{index}/fitted"] = np.array(person.fit.fitted)
            arrays[f"person{index}/quality"] = np.array(person.fit.quality)
        for kind, part in (("hand", person.hand), ("head", person.head)):
            named = {name: getattr(part, name) for name in _ARRAYS} | part.parameters
            named |= {} if part.offset is None else {"offset": part.offset}
            arrays |= {f"person{index}/{kind}/{name}": value for name, value in named.items()}
    return arrays


def to_json(photo: str, prediction: Prediction) -> dict[str, Any]:
    """Everything but the meshes as plain JSON values; numbers that are not finite become null."""
    record = {"schema": SCHEMA, "photo": photo}
    record |= {name: getattr(prediction, name) for name in ("width", "height", "trained", "reason")}
    return record | {"persons": [person_to_json(person) for person in prediction.persons]}


def read_record(path: Path) -> tuple[str, Prediction]:
    """NAME.json with NAME.npz beside it -> the photo's name and the prediction as it was. Raises RecordError or OSError."""
    try:
        record = json.loads(path.read_text())
        if record.get("schema") != SCHEMA:
            raise RecordError(f"{path}: schema is {record.get('schema')!r}, this reads {SCHEMA!r}")
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        persons = tuple(_read_person(one, f"person{index}", arrays) for index, one in enumerate(record["persons"]))
        plain = {name: record[name] for name in ("width", "height", "trained", "reason")}
        return record["photo"], Prediction(persons, **plain)
    except KeyError as error:
        raise RecordError(f"{path}: {error.args[0]} is missing in it or in {path.stem}.npz") from error
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise RecordError(f"{path}: not a stored prediction ({error})") from error
    except RecordError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RecordError(f"{path.with_suffix('.npz')}: {error}") from error


def person_to_json(person: Person) -> dict[str, Any]:
    """Everything of a person but the meshes as plain JSON values."""
    found = person.detection
    numbers: dict[str, Any] = {"side": person.side, "track": person.track}
    numbers |= {"presence": _plain(person.presence), "confidence": _plain(person.confidence)}
    kind = "perspective" if isinstance(person.camera, PinholeCamera) else "weak"
    numbers |= {"camera": {"kind": kind} | {name: _plain(value) for name, value in asdict(person.camera).items()}}
    fit = person.fit
    numbers |= {
        "fitted": fit is not None and fit.fitted,
        "quality": None if fit is None else _plain(fit.quality),
        "fit": None if fit is None else {"reason": fit.reason, "residuals": _plain(fit.residuals), "depth": fit.depth},
    }
    numbers |= {
        "crop": _plain(person.crop),
        "face_keypoints_2d": None if found is None else _plain(found.face),
        "hand_keypoints_2d": None if found is None else _plain(found.hand),
        "detection": None
        if found is None
        else {
            "side": found.side,
            "confidence": _plain(found.confidence),
            "face_box": None if found.face_box is None else _plain(found.face_box),
            "hand_world": None if found.hand_world is None else _plain(found.hand_world),
            "depth": None
            if found.depth is None
            else {"values": _plain(found.depth.values), "inverse": found.depth.inverse},
        },
    }
    return numbers | {"hand": _part(person.hand), "head": _part(person.head)}


def _part(part: Part) -> dict[str, Any]:
    return {
        "body": part.body,
        "convention": part.convention,
        "mesh": "parametric" if part.offset is None else "drawn",
        "contact_vertices": np.flatnonzero(part.contact > CONTACT_PROBABILITY).tolist(),
        "keypoints_3d": _plain(part.keypoints_3d),
        "parameters": {name: _plain(value) for name, value in part.parameters.items()},
    }


def _plain(value: Any) -> Any:
    """Lists and floats, null where a number is not finite (JSON has no NaN)."""
    array = np.asarray(value)
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()


def _read_person(record: dict[str, Any], prefix: str, arrays: dict[str, NDArray[Any]]) -> Person:
    detection = None
    if (found := record["detection"]) is not None:
        face, hand = (np.array(record[f"{kind}_keypoints_2d"], np.float32) for kind in ("face", "hand"))
        box = None if found["face_box"] is None else tuple(found["face_box"])
        world = None if found["hand_world"] is None else np.array(found["hand_world"], np.float32)
        # older files do not have it
        depth = None if (told := found.get("depth")) is None else _read_depth(told)
        detection = Detection(face, hand, _side(found["side"]), _number(found["confidence"]), box, world, depth)
    return Person(
        hand=_read_part(record["hand"], f"{prefix}/hand", arrays),
        head=_read_part(record["head"], f"{prefix}/head", arrays),
        side=_side(record["side"]),
        camera=_read_camera(arrays[f"{prefix}/camera"].tolist()),
        presence=_number(record["presence"]),
        confidence=_number(record["confidence"]),
        crop=arrays[f"{prefix}/crop"],
        detection=detection,
        track=record["track"],
        fit=_read_fit(record),
    )


def _read_depth(record: dict[str, Any]) -> PointDepth:
    values = np.array([[np.nan if value is None else value for value in pair] for pair in record["values"]], np.float32)
    told = values.shape == (KEYPOINTS, 2) and bool(np.isin(values[:, 1], (0, 1)).all())
    if not told or not np.isfinite(values[values[:, 1] == 1, 0]).all() or not isinstance(record["inverse"], bool):
        raise RecordError(
            f"depth: {KEYPOINTS} values with a validity of 0 or 1 each, and `inverse`, true or false, are expected"
        )
    return PointDepth(values, record["inverse"])


def camera_numbers(camera: WeakCamera | PinholeCamera) -> list[float]:
    """scale, tx, ty of a weak camera; focal, cx, cy and the translation's three of a pinhole."""
    if isinstance(camera, PinholeCamera):
        return [camera.focal, camera.cx, camera.cy, *camera.transl]
    return [camera.scale, camera.tx, camera.ty]


def _read_camera(numbers: list[float]) -> WeakCamera | PinholeCamera:
    if len(numbers) == 3:
        return WeakCamera(*numbers)
    focal, cx, cy, x, y, z = numbers
    return PinholeCamera(focal, cx, cy, (x, y, z))


def _read_fit(record: dict[str, Any]) -> Fit | None:
    if (fit := record["fit"]) is None:
        return None
    residuals = np.array([np.nan if value is None else value for value in fit["residuals"]], np.float32)
    return Fit(record["fitted"], _number(record["quality"]), fit["reason"], residuals, bool(fit.get("depth")))


def _read_part(record: dict[str, Any], prefix: str, arrays: dict[str, NDArray[Any]]) -> Part:
    values: dict[str, Any] = {name: arrays[f"{prefix}/{name}"] for name in _ARRAYS}
    parameters = {name: arrays[f"{prefix}/{name}"] for name in record["parameters"]}
    count = len(values["vertices"])
    values["offset"] = arrays.get(f"{prefix}/offset")
    wrong = [n for n in ("contact", "deformation", "offset") if (v := values[n]) is not None and len(v) != count]
    if wrong or (values["faces"].size and not 0 <= values["faces"].min() <= values["faces"].max() < count):
        raise RecordError(f"{prefix}: {', '.join(wrong) or 'faces'} do not fit its {count} vertices")
    return Part(**values, parameters=parameters, body=record["body"], convention=record["convention"])


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _side(value: str) -> Literal["left", "right"]:
    if value not in ("left", "right"):
        raise RecordError(f"side is {value!r}, not 'left' or 'right'")
    return cast(Literal["left", "right"], value)
