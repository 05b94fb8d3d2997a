"""One video of `handface predict`: the drawn video and the table of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from handface.counted import counted
from handface.jobs.prediction.summary import Summary, VideoFacts

if TYPE_CHECKING:
    from handface.model.prediction.prediction import Prediction
    from handface.model.prediction.predictor import Predictor
    from handface.predict.inputs import Input


def predict_video(predictor: Predictor, one: Input, folder: Path, summary: Summary, *, pictures: bool) -> None:
    """One video, frame by frame in constant memory: overlay video and table of parameters. What failed goes into the summary."""
    from handface.jobs.shared.progress import Progress
    from handface.jobs.shared.video_output import ParameterTable, VideoWriter
    from handface.model.outputs import OverlayConfig, draw_overlay
    from handface.model.prediction.video import VideoPredictor
    from handface.pipeline.annotators.analyser import DetectorError
    from handface.pipeline.contract.names.addresses import AddressRefusedError
    from handface.pipeline.sources.video import VideoFrames

    look = OverlayConfig(keypoints=True)
    # a track follows one hand; those that share a face in some frame are one person's
    tracks: dict[int | None, int] = {}
    count = 0
    try:
        with (
            VideoFrames(one.item.uri) as frames,
            Progress(one.name, frames.count or None, unit="frames") as progress,
            VideoWriter(folder / f"{one.stem}.mp4", frames.rate) as video,
            # ends first: without its last rows there is no film either
            ParameterTable(folder / f"{one.stem}.parquet", predictor.trained, predictor.config.mesh) as table,
        ):
            for count, frame in enumerate(VideoPredictor(predictor).predict(frames), start=1):
                table.add(count - 1, frame)
                if pictures:
                    video.add(draw_overlay(frame.image, frame.prediction, look))
                join_tracks(tracks, frame.prediction)
                progress.advance(1, f", {counted(len(tracks), 'hand')}")
            if not count:
                raise OSError("a video without a frame that can be decoded")
    except DetectorError as error:
        summary.failed[one.name] = f"the detector failed: {error}"
        return
    except (OSError, AddressRefusedError) as error:
        summary.failed[one.name] = str(error).removeprefix(f"{one.name}: ")  # the summary names it
        return
    summary.videos[one.name] = VideoFacts(count, video.rate, video.codec)
    summary.found(one.name, len(set(tracks.values())), len(tracks), "no hand near a face in any frame")


def join_tracks(tracks: dict[int | None, int], prediction: Prediction) -> None:
    """Add a frame to {track: person}: tracks of one face get the same person."""
    for face in set(prediction.faces):
        mine = [one.track for one, of in zip(prediction.persons, prediction.faces, strict=True) if of == face]
        known = {tracks[track] for track in mine if track in tracks}
        person = min(known, default=len(tracks))
        tracks |= dict.fromkeys(mine, person) | {track: person for track, old in tracks.items() if old in known}
