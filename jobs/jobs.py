"""Jobs on a Ray cluster: submit any verb from this folder, ask how it is doing, read its log, stop it. Thin over Ray's Job SDK.

The address is `--address`, or RAY_API_SERVER_ADDRESS, or RAY_ADDRESS with http://, or the head on this machine. A cluster that asks
for a token wants RAY_AUTH_MODE=token here too, and the token in RAY_AUTH_TOKEN or ~/.ray/auth_token.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from handface.jobs.shared.messages import log

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_LOCAL = "http://127.0.0.1:8265"
_STARTING = "No available agent"  # what the dashboard says in its first seconds
_PATIENCE = 30  # seconds it may say so
_WATCH_PAUSE = 5  # seconds between two looks
_RAYS_OWN = re.compile(r"[\d-]+ [\d:,]+\s+INFO job_manager\.py:\d+ -- ")
_BEGIN = "Running entrypoint for job "


@dataclass(frozen=True)
class Submit:
    """Send the project in this folder to the cluster and run a verb there. Example: handface jobs submit -- annotate --input ..."""

    command: Annotated[tuple[str, ...], tyro.conf.Positional]
    """After `--`: a verb and its flags."""
    address: str = ""
    """Dashboard of the cluster, http://HEAD:8265."""
    working_dir: Path = Path()
    """Folder that goes along: the checkout."""
    name: str = ""
    """Submission id; a new one if not given."""
    wait: bool = False
    """Print what the verb prints, to its end, and exit with its code; 1 if Ray does not tell it."""


@dataclass(frozen=True)
class Status:
    """How jobs are doing: one by its id, or all of them."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """Submission id; all jobs if not given."""
    address: str = ""
    """Dashboard of the cluster."""


@dataclass(frozen=True)
class List:
    """All jobs of the cluster, oldest first."""

    address: str = ""
    """Dashboard of the cluster."""
    watch: bool = False
    """Print a line whenever a job starts, ends or changes, until all have ended."""


@dataclass(frozen=True)
class Logs:
    """What a job has printed so far."""

    name: Annotated[str, tyro.conf.Positional]
    """Submission id."""
    address: str = ""
    """Dashboard of the cluster."""
    follow: bool = False
    """Until the job ends; exit with its code, 1 if Ray does not tell it."""


@dataclass(frozen=True)
class Stop:
    """End a job. Finished parts stay; submitting the same command again does the rest."""

    name: Annotated[str, tyro.conf.Positional]
    """Submission id."""
    address: str = ""
    """Dashboard of the cluster."""


SUBCOMMANDS = {"submit": Submit, "list": List, "status": Status, "logs": Logs, "stop": Stop}


def run(config: Submit | List | Status | Logs | Stop) -> int:
    """Do it. Returns 0, or for a job that failed the verb's exit code where Ray knows it, else 1."""
    if isinstance(config, Submit):
        _check_command(config)
    address = _address(config.address)
    with _in_sentences(address):
        client = _client(address)
        match config:
            case Submit():
                return _submit(client, config)
            case List():
                _list(client, config.watch)
            case Status():
                return _status(client, config.name)
            case Logs():
                _find(client, config.name)
                if config.follow:
                    return _follow(client, config.name)
                output = JobOutput()
                print(output.add(client.get_job_logs(config.name)) + output.end(), end="")
            case Stop():
                _find(client, config.name)
                print(f"{config.name}: {'stopping' if client.stop_job(config.name) else 'had ended already'}")
    return 0


def _address(given: str) -> str:
    ray_address = os.environ.get("RAY_ADDRESS", "")
    found = given or os.environ.get("RAY_API_SERVER_ADDRESS", "")
    return found or (ray_address if ray_address.startswith("http") else _LOCAL)


@contextmanager
def _in_sentences(address: str) -> Iterator[None]:
    """Say what a dashboard that refuses, or is none, wants. Raises PermissionError or ConnectionError with the address."""
    from ray.exceptions import AuthenticationError

    try:
        with _quiet():
            yield
    except AuthenticationError as error:
        raise PermissionError(f"{address}: {_about_token(str(error))}") from error
    except RuntimeError as error:
        raise ConnectionError(f"{address}: the cluster did not do it: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without --verbose, keep back what Ray tells here of what it packs and uploads, and of connections that close."""
    import ray  # makes the handlers  # noqa: F401

    handlers = logging.getLogger("ray").handlers
    levels = [handler.level for handler in handlers]
    if not log.isEnabledFor(logging.DEBUG):
        for handler in handlers:
            handler.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


def _about_token(answer: str) -> str:
    """What to do about an answer 401 or 403."""
    if "Invalid" in answer or "Authentication failed" in answer:
        return "the cluster refuses this token (403); put the head's token into RAY_AUTH_TOKEN or ~/.ray/auth_token"
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return (
            "the cluster asks for a token (401) and RAY_AUTH_MODE does not tell this shell to send one; "
            "export RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN unless ~/.ray/auth_token holds it"
        )
    return "the cluster asks for a token (401) and there is none; put it into RAY_AUTH_TOKEN or ~/.ray/auth_token"


def _client(address: str) -> JobSubmissionClient:
    """A client. Raises ConnectionError that names the address."""
    from ray.job_submission import JobSubmissionClient

    if not address.startswith(("http://", "https://")):
        raise ValueError(f"--address {address}: give the dashboard's, http://HEAD:8265")
    try:
        return JobSubmissionClient(address)
    # KeyError and ValueError: something else than Ray answered.
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        # Ray's own words for that say the address once more
        said = "" if address in str(error) else f" ({error})"
        raise ConnectionError(
            f"{address}: no Ray dashboard answers there{said}; is the head up and its port forwarded? "
            "give --address http://HEAD:8265"
        ) from error


def _check_command(config: Submit) -> None:
    """Read the verb's flags here, before anything is sent. Raises ValueError, or SystemExit as the verb itself would."""
    from importlib import import_module

    from handface.jobs.cli import BY_NAME
    from handface.jobs.shared.arguments import parse_arguments

    verb, *flags = config.command or ("",)
    if verb not in BY_NAME or verb == "jobs":
        raise ValueError(
            f"no verb {verb!r} to submit; give `-- VERB FLAGS`, e.g. -- annotate --input urls.parquet --output s3://..."
        )
    if not (config.working_dir / "handface").is_dir():
        raise ValueError(
            f"--working-dir {config.working_dir}: no folder handface in it; run this from a checkout of the project, which goes along"
        )
    parse_arguments(import_module(f"handface.jobs.{verb.replace('-', '_')}"), f"handface {verb}", "", flags)


def _submit(client: JobSubmissionClient, config: Submit) -> int:
    verb, *flags = config.command
    # exec: the shell makes way, so that stopping the job ends the verb itself
    entrypoint = "exec " + shlex.join(["python", "-m", f"handface.jobs.{verb.replace('-', '_')}", *flags])
    runtime = {"working_dir": str(config.working_dir.absolute()), "excludes": [".git", ".venv", "out"]}
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            name = client.submit_job(entrypoint=entrypoint, submission_id=config.name or None, runtime_env=runtime)
            break
        except RuntimeError as error:
            if "already exists" in str(error):
                raise ValueError(f"--name {config.name}: the cluster has a job of that name; choose another") from error
            if _STARTING not in str(error) or time.monotonic() > end:
                raise
            time.sleep(1)
    print(name)
    return _follow(client, name) if config.wait else 0


def _find(client: JobSubmissionClient, name: str) -> JobDetails:
    """The job. Raises ValueError with the names there are."""
    try:
        return client.get_job_info(name)
    except RuntimeError as error:
        if "404" not in str(error):
            raise
        names = ", ".join(job.submission_id or str(job.job_id) for job in _by_start(client)[-5:]) or "none"
        raise ValueError(f"no job {name!r} on this cluster; the latest are: {names} (`handface jobs list`)") from error


def _by_start(client: JobSubmissionClient) -> list[JobDetails]:
    return sorted(client.list_jobs(), key=lambda job: job.start_time or 0)


def _list(client: JobSubmissionClient, watch: bool) -> None:
    """Print all jobs; with `watch`, again those that changed, until all have ended."""
    shown: dict[str, str] = {}
    while True:
        jobs = _by_start(client)
        for job in jobs:
            name = job.submission_id or str(job.job_id)
            if shown.get(name) != job.status:
                print(_line(job), flush=True)
            shown[name] = job.status
        if not watch or all(job.status.is_terminal() for job in jobs):
            break
        time.sleep(_WATCH_PAUSE)
    if not shown:
        print("no jobs yet")


def _line(job: JobDetails) -> str:
    seconds = ((job.end_time or 0) - (job.start_time or 0)) / 1000
    took = f"  {seconds:.0f} s" if seconds > 0 else ""
    return f"{job.submission_id or job.job_id}  {job.status}{took}  {job.entrypoint}"


def _status(client: JobSubmissionClient, name: str) -> int:
    from ray.job_submission import JobStatus

    if not name:
        _list(client, watch=False)
        return 0
    job = _find(client, name)
    print(_line(job))
    return int(job.status == JobStatus.FAILED)


class JobOutput:
    """What a job itself prints, out of a log that Ray begins with lines of its own."""

    def __init__(self) -> None:
        self._begun = False
        self._rest = ""

    def add(self, text: str) -> str:
        """Take a piece of the log, and return what of it is to be shown by now."""
        if self._begun:
            return text
        *lines, self._rest = (self._rest + text).splitlines(keepends=True) or [""]
        if self._rest.endswith("\n"):
            lines, self._rest = [*lines, self._rest], ""
        shown = []
        for line in lines:
            begins = not self._begun and line.startswith(_BEGIN)
            if self._begun or not (begins or _RAYS_OWN.match(line)):
                shown.append(line)
            self._begun |= begins
        if self._begun:
            shown.append(self.end())
        return "".join(shown)

    def end(self) -> str:
        """What was held back because its line had no end yet."""
        rest, self._rest = self._rest, ""
        return rest


def _follow(client: JobSubmissionClient, name: str) -> int:
    import asyncio

    from ray.job_submission import JobStatus

    output = JobOutput()

    async def tail() -> None:
        async for lines in client.tail_job_logs(name):
            print(output.add(lines), end="", flush=True)

    asyncio.run(tail())
    print(output.end(), end="", flush=True)
    job = client.get_job_info(name)
    if job.status == JobStatus.SUCCEEDED:
        return 0
    code = job.driver_exit_code
    # with a code it ended by itself, and Ray's message is the end of the log once more
    told = f"exit code {code}" if code else job.message
    print(f"{name}: {job.status}" + (f" ({told})" if told else ""), file=sys.stderr)
    # by a signal: as shells tell it
    return 1 if not code else code if code > 0 else 128 - code


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("jobs"))
