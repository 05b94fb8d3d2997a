"""Three pictures through the real networks: their keys and scores are the same under every supported version of every library.

Other processors round otherwise: that moves a score by some hundredths, and a crop, which lies on a grid, hardly ever.
If this fails after an upgrade, the upgrade changes labels: see `TESTED` in pipeline/engine/libraries.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from handface.jobs.demonstration.pictures import write_demo_input
from handface.pipeline.contract.parts import read_parts
from handface.pipeline.contract.shards import iter_samples
from handface.pipeline.engine.executor import execute
from handface.pipeline.engine.libraries import TESTED, distributions, installed, untested
from handface.pipeline.engine.run import prepare
from handface.pipeline.sources import open_source
from handface.pipeline.stages.detect import DetectConfig
from handface.pipeline.stages.recipe import AnnotateConfig, build_stages

ROOT = Path(__file__).parents[2]
# {picture: (key, contact score)}
GOLDEN = {
    "touch_astronaut_left.jpg": ("0f4f7cc0ec057bdf", 0.421),
    "touch_astronaut_right_again.jpg": ("eef1a6dd8e634b7b", 0.482),
    "touch_hopper_right.jpg": ("d3dd7009cbd0fbeb", 0.546),
}


def test_keys_and_scores_of_three_pictures(tmp_path: Path) -> None:
    pictures = {path.name: path for path in write_demo_input(tmp_path / "all")}
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in GOLDEN:
        pictures[name].rename(photos / name)
    config = AnnotateConfig(detect=DetectConfig(segmenter="off"))
    sources = [str(photos)]
    run = prepare(
        sources,
        config,
        str(tmp_path / "out"),
        list_inputs=lambda: open_source(sources, config.sources),
        stages=build_stages,
    )
    assert [result.error for result in execute(run, workers=1, local=True)] == [None]
    found = {
        Path(sample.meta.source.uri).name: (sample.meta.key, pytest.approx(sample.meta.scores.contact, abs=0.03))
        for part in read_parts(str(tmp_path / "out"))
        for sample in iter_samples(part.uri("tar"))
    }
    assert found == GOLDEN, f"other labels for the same photos, with {installed(TESTED)}"


def test_the_constraints_lie_in_the_tested_range() -> None:
    pinned = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    found = {name: pinned[wheel] for name in TESTED for wheel in distributions(name) if wheel in pinned}
    assert found.keys() == TESTED.keys() and not untested(found)


def test_lower_bounds_are_the_oldest_tested_versions() -> None:
    """What pip may resolve is what was tried."""
    bounds = dict(re.findall(r'"([a-z-]+)>=([\d.]+)', (ROOT / "pyproject.toml").read_text()))
    for library in ("numpy", "opencv-contrib-python", "openvino", "pillow", "simplejpeg", "torch"):
        assert TESTED[library.partition("-")[0]][0].startswith(bounds[library]), library
