"""What the tests of export share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from tests.object_store import s3_bucket
from tests.pipeline.export.releases import record, write_parts


@pytest.fixture
def parts(tmp_path: Path) -> str:
    """20 samples of 5 hosts in 2 units, and one input turned away."""
    away = Record(SourceItem("https://a.org/none.jpg"))
    away.reject(Reason.NO_FACE)
    away.stage = "detect"
    records = [record(n, f"host{n % 5}.org") for n in range(20)]
    return write_parts(tmp_path / "parts", [*records[:9], away], records[9:])


@pytest.fixture
def s3() -> Iterator[str]:
    """A bucket on a server of our own, on loopback."""
    with s3_bucket() as bucket:
        yield bucket
