"""What a bucket, a hub or a web server answers is one line with exit code 2, whichever library says it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from handface.jobs import cli


def no_credentials() -> Exception:
    from botocore.exceptions import NoCredentialsError

    return NoCredentialsError()


def no_bucket() -> Exception:
    from botocore.exceptions import ClientError

    return ClientError({"Error": {"Code": "NoSuchBucket", "Message": "it does not exist"}}, "ListObjectsV2")


def gated_repository() -> Exception:
    from huggingface_hub.errors import LocalEntryNotFoundError

    return LocalEntryNotFoundError("Cannot find the file\n\nand offline mode is on")


def hung_up() -> Exception:
    from aiohttp import ClientPayloadError

    return ClientPayloadError("Response payload is not completed")


def no_route() -> Exception:
    from requests import ConnectionError

    return ConnectionError("Max retries exceeded")


def pool() -> Exception:
    from urllib3.exceptions import MaxRetryError

    return MaxRetryError(None, "/x", Exception("refused"))  # type: ignore[arg-type]


def not_installed() -> Exception:
    """As google.api_core raises it: its package is not here."""
    return type("Forbidden", (Exception,), {"__module__": "google.api_core.exceptions"})("403 no access to bucket")


def silent() -> Exception:
    from aiohttp import ClientError

    return type("OwnError", (ClientError,), {"__module__": "somebody"})()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_credentials, "NoCredentialsError: Unable to locate credentials"),
        (no_bucket, "NoSuchBucket"),
        (gated_repository, "LocalEntryNotFoundError: Cannot find the file and offline mode is on"),
        (hung_up, "ClientPayloadError: Response payload is not completed"),
        (no_route, "ConnectionError: Max retries exceeded"),
        (pool, "MaxRetryError: "),
        (not_installed, "Forbidden: 403 no access to bucket"),
        (silent, "error: OwnError"),
    ],
)
def test_one_line_and_exit_code_2(
    make: Callable[[], Exception], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(make(), monkeypatch)
    assert cli.main(["stats", "x"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("handface stats: error: ") and error.count("\n") == 1


def test_an_unknown_librarys_error_is_still_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    fail(type("Odd", (Exception,), {"__module__": "requestsomething.errors"})("x"), monkeypatch)
    with pytest.raises(Exception, match="x"):
        cli.main(["stats", "x"])


def fail(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    import handface.jobs.stats as stats

    def run(config: object) -> int:
        raise error

    monkeypatch.setattr(stats, "run", run)
