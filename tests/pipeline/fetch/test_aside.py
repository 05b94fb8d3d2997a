"""Slow work stops neither the event loop nor the work of others."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from handface.pipeline.fetch.aside import Aside, TooSlowError


def test_results_and_errors_come_back():
    async def go():
        aside = Aside()
        assert await aside.run(5, divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await aside.run(5, divmod, 1, 0)
        aside.close()

    asyncio.run(go())


def test_what_is_too_slow_ends_and_the_rest_goes_on():
    release = threading.Event()

    async def go() -> tuple[list[str], int]:
        aside, turns = Aside(threads=1), 0

        async def slow() -> str:
            with pytest.raises(TooSlowError, match="not done"):
                await aside.run(0.2, release.wait, 10)
            return "slow"

        async def quick(number: int) -> str:
            return await aside.run(5, str, number)

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        ticking = asyncio.create_task(count())
        first = asyncio.create_task(slow())
        await asyncio.sleep(0.4)
        answers = await asyncio.gather(first, *(quick(i) for i in range(5)))
        ticking.cancel()
        release.set()
        aside.close()
        return answers, turns

    start = time.monotonic()
    answers, turns = asyncio.run(go())
    assert answers == ["slow", "0", "1", "2", "3", "4"] and turns > 5
    assert time.monotonic() - start < 5
