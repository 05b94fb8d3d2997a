"""What the tests of export share."""

from __future__ import annotations

from pathlib import Path

import pytest

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from tests.object_store import s3_server
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
def s3(monkeypatch: pytest.MonkeyPatch):
    """A bucket on a server of our own, on loopback."""
    import fsspec

    with s3_server() as address:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": address,
        }.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield "s3://bucket"
        fsspec.get_filesystem_class("s3").clear_instance_cache()
