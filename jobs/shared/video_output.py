"""Results of a video, written as they come: the overlay as MP4, and one row per person and frame as Parquet.

While a video is predicted its files are called NAME.partial.*; they get their names at the end, and are removed if it fails.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    from handface.model.prediction.prediction import Part, Person
    from handface.model.prediction.video import Frame

CODECS = {"vp09": "VP9", "avc1": "H.264", "mp4v": "MPEG-4 part 2, which browsers do not play"}
"""By preference: OpenCV's wheels write VP9 but have no H.264 encoder, and browsers play both."""
_ROWS = 256  # per row group, and at most in memory


class ParameterTable:
    """One row per person and frame: time, track, side, camera, presence, contact, keypoints, and the parameters of hand and head.

    mesh: which mesh contact, keypoints_3d and parameters belong to, said in the metadata. A context manager. The columns' lengths are those of the first person; the file exists even if there is none.
    """

    def __init__(self, path: Path, trained: bool, mesh: str) -> None:
        self.path, self._partial, self.trained, self.mesh = path, partial_path(path), trained, mesh
        self._rows: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> ParameterTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = False
        try:
            if error is None:
                self._flush()
                whole = True
        finally:
            if self._writer is not None:
                self._writer.close()
                _keep(self._partial, self.path, whole)

    def add(self, number: int, frame: Frame) -> None:
        """All people of frame `number`."""
        self._rows += [_row(number, frame.time, person) for person in frame.prediction.persons]
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = pq.ParquetWriter(self._partial, self._schema(), compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._writer.schema))
        self._rows = []

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        columns = [("frame", pa.int64()), ("time", pa.float64()), ("track", pa.int64()), ("side", pa.string())]
        columns += [("detected", pa.bool_()), ("confidence", pa.float64()), ("presence", pa.float64())]
        columns += [("camera", pa.list_(pa.float64())), ("fitted", pa.bool_()), ("quality", pa.float64())]
        points, vertices = pa.list_(pa.list_(pa.float32())), pa.list_(pa.int32())
        columns += [("face_keypoints_2d", points), ("hand_keypoints_2d", points)]
        for part in ("hand", "head"):
            columns += [(f"{part}_keypoints_3d", points), (f"{part}_contact_vertices", vertices)]
        known = {name for row in self._rows for name in row} - {name for name, _ in columns}
        columns += [(name, pa.list_(pa.float32())) for name in sorted(known)]
        return pa.schema(columns, metadata={"trained": str(self.trained).lower(), "mesh": self.mesh})


class VideoWriter:
    """Frames (H, W, 3) uint8 RGB -> MP4 at a constant rate of 1 and up, in the first of `CODECS` that this machine's OpenCV can write.

    A context manager; raises OSError if it can write none.
    """

    def __init__(self, path: Path, rate: float) -> None:
        # codecs refuse less, as films of an hour a frame have
        self.path, self._partial, self.rate = path, partial_path(path), max(rate, 1.0)
        self.codec = ""
        """What was chosen at the first frame, for people; "" before."""
        self._writer: Any = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            _keep(self._partial, self.path, error is None)

    def add(self, image: NDArray[np.uint8]) -> None:
        """The next frame; all have the size of the first."""
        import cv2

        if self._writer is None:
            self._writer = self._open(image.shape[1], image.shape[0])
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def _open(self, width: int, height: int) -> Any:
        import cv2

        for code, name in CODECS.items():
            writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*code), self.rate, (width, height))
            if writer.isOpened():
                self.codec = name
                return writer
        raise OSError(f"{self.path}: OpenCV on this machine cannot write MP4; use --no-pictures")


def partial_path(path: Path) -> Path:
    """What a file is called until it is whole; the ending stays, as it decides the format."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def _keep(partial: Path, path: Path, whole: bool) -> None:
    if whole:
        partial.replace(path)
    else:
        partial.unlink()


def _row(number: int, time: float, person: Person) -> dict[str, Any]:
    from handface.model.outputs.records import camera_numbers

    row = {
        "frame": number,
        "time": time,
        "track": person.track,
        "side": person.side,
        "detected": person.detection is not None,
        "confidence": person.confidence,
        "presence": person.presence,
        "camera": camera_numbers(person.camera),
        "fitted": person.fit is not None and person.fit.fitted,
        "quality": None if person.fit is None else person.fit.quality,
    }
    for name in ("face", "hand"):
        row[f"{name}_keypoints_2d"] = None if person.detection is None else getattr(person.detection, name).tolist()
    return row | _part("hand", person.hand) | _part("head", person.head)


def _part(name: str, part: Part) -> dict[str, Any]:
    from handface.model.prediction.prediction import CONTACT_PROBABILITY

    columns = {f"{name}_{key}": value.tolist() for key, value in part.parameters.items()}
    columns[f"{name}_keypoints_3d"] = part.keypoints_3d.tolist()
    columns[f"{name}_contact_vertices"] = (part.contact > CONTACT_PROBABILITY).nonzero()[0].tolist()
    return columns
