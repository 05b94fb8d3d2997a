"""Reads the bytes of each input, wherever they are: a file, a tar member, a video frame, a URL."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from handface.pipeline.contract.config import Count
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.names.addresses import AddressRefusedError, UnknownSchemeError, may_open, open_place
from handface.pipeline.contract.names.url_names import is_web
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage
from handface.pipeline.fetch.network.http import Fetcher, HttpConfig
from handface.pipeline.sources.video import VideoFrames, frame_time


@dataclass(frozen=True)
class ReadConfig:
    """Caps while reading."""

    max_bytes: Count = 64 << 20
    """Files and tar members larger than this are not read."""
    http: HttpConfig = field(default_factory=HttpConfig)


class ReadStage(Stage):
    """Fills data and sha256 (of the original bytes); a video frame arrives decoded, hashed over its pixels."""

    name = "read"
    writes = ("data", "image", "sha256", "original_size", "evidence")

    def __init__(self, config: ReadConfig = ReadConfig()) -> None:
        self.config = config

    def setup(self) -> None:
        """Nothing is open yet."""
        self._video: VideoFrames | None = None
        self._fetcher: Fetcher | None = None

    def start_unit(self) -> None:
        """Close the video of the unit before, and give hosts their time budget afresh."""
        self._close_video()
        if self._fetcher is not None:
            self._fetcher.start_unit()

    def close(self) -> None:
        """Close the video and the network."""
        self._close_video()
        if self._fetcher is not None:
            self._fetcher.close()
            self._fetcher = None

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.close()
        self._video = None

    def __call__(self, batch: Sequence[Record]) -> None:
        """Read each input; URLs of a batch are fetched side by side."""
        remote = []
        for record in batch:
            item = record.item
            if item.problem is not None:
                record.reject(item.problem, item.detail)
            elif is_web(item.uri) and frame_time(item) is None:
                remote.append(record)
            elif frame_time(item) is not None:
                self._read_frame(record)
            else:
                self._read_file(record)
        if remote:
            # Kept over units: it remembers what hosts permit.
            self._fetcher = self._fetcher or Fetcher(self.config.http)
            spans = [_span(record.item) for record in remote]
            answers = self._fetcher.fetch([record.item.uri for record in remote], spans=spans)
            for record, answer in zip(remote, answers, strict=True):
                record.data, record.evidence = answer.data, dict(answer.evidence)
                if answer.reason is not None:
                    record.reject(answer.reason, answer.detail)
        for record in batch:
            if record.data is not None:
                record.sha256 = hashlib.sha256(record.data).hexdigest()
                if not record.data:
                    record.reject(Reason.EMPTY, "0 bytes")

    def _read_file(self, record: Record) -> None:
        item = record.item
        try:
            with open_place(may_open(item.uri)) as file:
                if item.offset is not None and item.size is not None:
                    if item.size > self.config.max_bytes:
                        return record.reject(Reason.TOO_LARGE, f"{item.size} bytes")
                    file.seek(item.offset)
                    record.data = file.read(item.size)
                    if len(record.data) < item.size:
                        record.reject(Reason.CORRUPT, f"{item.name}: the tar ends inside this member")
                else:
                    record.data = file.read(self.config.max_bytes + 1)
                    if len(record.data) > self.config.max_bytes:
                        record.reject(Reason.TOO_LARGE, f"more than {self.config.max_bytes} bytes")
        except FileNotFoundError:
            record.reject(Reason.NOT_FOUND, item.uri)
        except (OSError, ImportError, RuntimeError) as error:  # ImportError: fsspec names the package a scheme needs
            record.reject(Reason.UNREADABLE, f"{type(error).__name__}: {error}")
        except UnknownSchemeError as error:
            record.reject(Reason.UNKNOWN_SCHEME, str(error))
        except AddressRefusedError as error:
            record.reject(Reason.BAD_ADDRESS, str(error))
        except ValueError as error:
            record.reject(Reason.UNREADABLE, str(error))
        return None

    def _read_frame(self, record: Record) -> None:
        time = frame_time(record.item)
        assert time is not None
        if self._video is None or self._video.uri != record.item.uri:
            self._close_video()
            try:
                self._video = VideoFrames(record.item.uri)
            except AddressRefusedError as error:
                return record.reject(Reason.BAD_ADDRESS, str(error))
            except OSError as error:
                # It was there when the frames were listed.
                return record.reject(Reason.UNREADABLE, str(error))
        frame = self._video.at(time)
        if frame is None:
            return record.reject(Reason.UNREADABLE, f"no frame at {time:.3f} s")
        record.image, record.sha256 = frame, hashlib.sha256(frame.tobytes()).hexdigest()
        record.original_size = (frame.shape[1], frame.shape[0])
        return None


def _span(item: SourceItem) -> tuple[int, int] | None:
    """Where a tar's member lies."""
    return None if item.offset is None or item.size is None else (item.offset, item.offset + item.size)
