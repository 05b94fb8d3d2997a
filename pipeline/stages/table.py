"""Prints `docs/stages.md` from the stages' declarations: `python -m handface.pipeline.stages.table > docs/stages.md`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from handface.pipeline.engine.stage import Stage
from handface.pipeline.stages.fit import FitStageConfig
from handface.pipeline.stages.recipe import AnnotateConfig, build_stages

_PAGE = """# Stages

The stages of `handface annotate`, in order. This page is printed from their declarations: `python -m handface.pipeline.stages.table`.
A stage reads fields of `Record` (`pipeline/engine/record.py`) and fills others in, or turns the input away with a reason.
A list of stages in which one reads what none before it leaves is refused before a run starts.

{table}

`fit` is there only with `--fit.model`. Other commands are lists of one stage on the same engine: `crawl` (pipeline/crawl/stage.py, writes
`packed`), `synthesize` (pipeline/synthesis/make.py, writes `sample`; with `--layout decaf`, `film` in pipeline/synthesis/studio/film.py),
`decaf-to-shards` (`decaf` in pipeline/decaf/convert.py, writes `sample`).

## What the engine promises
- **One guard.** An error that one input causes inside a stage ends that input with the reason `failed` and the error as detail. The inputs beside it
  are kept, and a rerun does not ask it again. After an error each input of the batch is tried alone, three times in all.
- **Trouble of a stage is not trouble of inputs.** A full disk, an accelerator that is full or gone, or a stage that fails for each of eight or more
  inputs of a unit fails the unit. The same command tries it again.
- **Killed and hung workers** (on Ray). A unit is tried again when its worker process dies, or when one call takes longer than the stage's `limit`
  (15 minutes unless the stage says otherwise; then the process is ended, also inside native code). The second death tells the batch, the third the
  input: that input ends as `failed`, the others are kept.
- **Versions.** The stages' versions and the configuration are the identity of a run. A folder made with others is refused by the names of the fields.
- **Same bytes.** Inputs, configuration and versions decide the bytes of a part; workers, lanes, kills and retries do not.
- **Small inputs use all workers.** `annotate` and `synthesize` cut short listings into smaller units (at least 8 inputs, about 32 units). The length
  of the listing alone decides it.
- **Memory.** Samples go to a part's tar one by one. A crawl's pictures wait in a temporary file (in `TMPDIR`) until their unit is whole.
"""


def stage_table(stages: Sequence[Stage]) -> str:
    """A Markdown table: a row per stage, what it does, reads, writes, drops, needs, and its version."""
    lines = ["| stage | does | reads | writes | drops | needs | version |", "|---|---|---|---|---|---|---|"]
    for stage in stages:
        does = (type(stage).__doc__ or "").splitlines()[0].rstrip(".")
        needs = f"{stage.resources.num_cpus:g} CPU" + (
            f", {stage.resources.num_gpus:g} GPU" if stage.resources.num_gpus else ""
        )
        fields = [", ".join(f"`{name}`" for name in names) for names in (stage.reads, stage.writes, stage.drops)]
        lines.append(f"| `{stage.name}` | {does} | {' | '.join(fields)} | {needs} | {stage.version} |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    return _PAGE.format(table=stage_table(build_stages(AnnotateConfig(fit=FitStageConfig(model="named")), day="")))


if __name__ == "__main__":
    sys.stdout.write(page())
