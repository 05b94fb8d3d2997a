import pytest

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.filters.nsfw import NsfwConfig, NsfwStage

skimage_data = pytest.importorskip("skimage.data")


def judged(threshold: float | None) -> Record:
    stage = NsfwStage(NsfwConfig(threshold))
    stage.setup()
    record = Record(SourceItem("x"), image=skimage_data.astronaut())
    stage([record])
    return record


def test_an_astronaut_is_safe_and_the_network_is_recorded():
    record = judged(0.8)
    assert record.alive and [a.name for a in record.annotators] == ["open-nsfw"]
    assert record.annotators[0].thresholds == {"nsfw": 0.8}


def test_the_threshold_decides():
    record = judged(0.0)
    assert record.reason is Reason.NSFW and "score" in record.detail


def test_off_means_not_looked_at():
    assert judged(None).annotators == []
