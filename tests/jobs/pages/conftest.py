"""The demo page that the tests of its server and those in a browser ask, one for each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.jobs.pages.page_server import Known, serving


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


@pytest.fixture(scope="module")
def port(known: Known) -> Iterator[int]:
    with serving(known, max_bytes=2_000_000, max_pixels=1_000_000) as number:
        yield number
