"""The stage that films the subjects of a synthetic Decaf: one subject is one input, whose files lie beside the parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage
from handface.pipeline.synthesis.studio.capture import subject_name, write_subject
from handface.pipeline.synthesis.studio.dataset import VERSION, StudioConfig

SCHEME = "studio"


def run_folder(root: Path) -> str:
    """Where in a dataset the run that makes it keeps its plan and its parts."""
    return str(root / ".film")


def list_subjects(config: StudioConfig) -> Iterator[SourceItem]:
    """The inputs of a run: the subjects by number, from 1."""
    for number in range(1, config.capture.subjects + 1):
        yield SourceItem(f"{SCHEME}:{config.seed}/{subject_name(number)}", str(number))


class FilmStage(Stage):
    """Films each record's subject and puts its files in place. root: on a Ray cluster, on a file system that all nodes see."""

    name = "film"
    writes = ("reason",)
    version = VERSION
    guarded = False  # a subject that failed is filmed again by the same command
    limit = None

    def __init__(self, root: Path, config: StudioConfig) -> None:
        self.root, self.config = root, config

    def __call__(self, batch: Sequence[Record]) -> None:
        """Film; no sample comes of it."""
        for record in batch:
            try:
                frames = write_subject(self.root, self.config, int(record.item.member or 0))
            except Exception as error:
                error.add_note(f"while filming {record.item.name}")
                raise
            record.reject(Reason.FILMED, f"{frames} frames")
