"""Storage that may be away for a while: what fails there is tried again, each time after a longer pause."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from handface.pipeline.contract.sample import SampleError
from handface.pipeline.contract.storage import StorageError, is_refusal

log = logging.getLogger(__name__)
PATIENCE_S = 300.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 15.0
# the same answer would come again
_HOPELESS = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    StorageError,
    SampleError,
    TypeError,
)

Value = TypeVar("Value")


def with_retries(what: str, action: Callable[..., Value], *arguments: Any, patience_s: float = PATIENCE_S) -> Value:
    """The result of `action(*arguments)`, tried again while storage is away.

    Args:
        what: The file, for messages.
        action: Reads or writes; object stores raise errors of many kinds.
        arguments: Of the action.
        patience_s: Seconds after which the error is passed on.

    Raises:
        Exception: What `action` raised at last; at once where another try would not help.
    """
    start, pause, told = time.monotonic(), _FIRST_PAUSE_S, False
    while True:
        try:
            return action(*arguments)
        except Exception as error:
            if isinstance(error, _HOPELESS) or not is_outage(error) or time.monotonic() - start + pause > patience_s:
                raise
            if not told and pause > 1:
                log.warning("%s: storage does not answer (%s); trying again for %.0f s", what, error, patience_s)
                told = True
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def is_outage(error: Exception) -> bool:
    """Whether an error is of the storage or the network, and not of what was read."""
    if is_refusal(error):
        return False
    packages = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "fsspec", "adlfs", "requests", "urllib3")
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.partition(".")[0] in packages
