"""Work on what strangers sent, beside the event loop and for a limited time: one slow page or picture stops no other host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class TooSlowError(TimeoutError):
    """Work took longer than it may."""


class Aside:
    """A few threads for pages and pictures; decoders let go of the interpreter while they work.

    What is too slow is left to end by itself in its thread, and the others get new ones.
    """

    def __init__(self, threads: int = 2) -> None:
        self._threads = threads
        self._pool = self._start()

    async def run(self, seconds: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`, or what it raises.

        Args:
            seconds: It may take, from when a thread is free for it.
            work: A function that touches nothing of the event loop.
            *args: Given to it.
            **kwargs: Likewise.

        Raises:
            TooSlowError: It takes longer.
        """
        loop, begun, pool = asyncio.get_running_loop(), asyncio.Event(), self._pool

        def begin() -> T:
            loop.call_soon_threadsafe(begun.set)
            return work(*args, **kwargs)

        future = loop.run_in_executor(pool, begin)
        # Waiting for a thread does not count.
        await begun.wait()
        done, _ = await asyncio.wait([future], timeout=seconds)
        if done:
            return future.result()
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        if pool is self._pool:
            # Its thread is lost for now; those who wait in this pool are served by the other threads.
            self._pool = self._start()
            pool.shutdown(wait=False)
        raise TooSlowError(f"not done within {seconds:g} s")

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="aside")
