"""Annotate with a stage of your own in the list: here one that turns away pictures without contrast.

python examples/own_stage.py photos out/parts
"""

import sys
from collections import Counter
from collections.abc import Sequence

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.engine.executor import execute
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.run import prepare
from handface.pipeline.engine.stage import Stage
from handface.pipeline.sources import open_source
from handface.pipeline.stages.recipe import AnnotateConfig, build_stages


class ContrastStage(Stage):
    """Turns away pictures whose brightness hardly varies."""

    name, reads = "contrast", ("image",)

    def __call__(self, batch: Sequence[Record]) -> None:
        """Measure each picture."""
        for record in batch:
            if record.image[::4, ::4].std() < 8:
                record.reject(Reason.BLURRED, "hardly any contrast")


def make_stages(config: AnnotateConfig, day: str) -> list[Stage]:
    """The stages of `handface annotate`, with ours behind `decode`, which fills in the picture."""
    stages = build_stages(config, day)
    position = 1 + [stage.name for stage in stages].index("decode")
    return [*stages[:position], ContrastStage(), *stages[position:]]


def main(photos: str, output: str) -> dict[str, int]:
    """Run the stages in this process. Returns how many inputs were kept, and how many were rejected for each reason."""
    config = AnnotateConfig()
    run = prepare([photos], config, output, list_inputs=lambda: open_source([photos]), stages=make_stages)
    for result in execute(run, workers=1, local=True):
        if result.manifest is None:
            raise RuntimeError(f"unit {result.unit}: {result.error}")
        run.finished.add(result.manifest)
    reasons = sum(run.finished.rejected.values(), Counter())
    return {"kept": run.finished.kept, **reasons}


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
