"""The S3 server of the exports' tests."""

from tests.pipeline.export.conftest import s3

__all__ = ["s3"]
