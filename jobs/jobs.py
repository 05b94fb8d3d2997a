"""Jobs on a Ray cluster: submit any verb from this folder, ask how it is doing, read its log, stop it. Thin over Ray's Job SDK.

The address is `--address`, or RAY_API_SERVER_ADDRESS, or RAY_ADDRESS with http://, or the head on this machine. A cluster that asks
for a token wants RAY_AUTH_MODE=token here too.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_LOCAL = "http://127.0.0.1:8265"
_STARTING = "No available agent"  # what the dashboard says in its first seconds
_PATIENCE = 30  # seconds it may say so


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
    """Follow the log to the end; exit with 1 if the job failed."""


@dataclass(frozen=True)
class Status:
    """How jobs are doing: one by its id, or all of them."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """Submission id; all jobs if not given."""
    address: str = ""
    """Dashboard of the cluster."""


@dataclass(frozen=True)
class Logs:
    """What a job has printed so far."""

    name: Annotated[str, tyro.conf.Positional]
    """Submission id."""
    address: str = ""
    """Dashboard of the cluster."""
    follow: bool = False
    """Until the job ends; exit with 1 if it failed."""


@dataclass(frozen=True)
class Stop:
    """End a job. Finished parts stay; submitting the same command again does the rest."""

    name: Annotated[str, tyro.conf.Positional]
    """Submission id."""
    address: str = ""
    """Dashboard of the cluster."""


SUBCOMMANDS = {"submit": Submit, "status": Status, "logs": Logs, "stop": Stop}


def run(config: Submit | Status | Logs | Stop) -> int:
    """Do it. Returns 0, or 1 for a job that failed."""
    client = _client(config.address)
    match config:
        case Submit():
            return _submit(client, config)
        case Status():
            return _status(client, config.name)
        case Logs():
            if config.follow:
                return _follow(client, config.name)
            print(client.get_job_logs(config.name), end="")
        case Stop():
            print(f"{config.name}: {'stopping' if client.stop_job(config.name) else 'had ended already'}")
    return 0


def _client(address: str) -> JobSubmissionClient:
    """A client. Raises ConnectionError that names the address."""
    from ray.job_submission import JobSubmissionClient

    ray_address = os.environ.get("RAY_ADDRESS", "")
    found = address or os.environ.get("RAY_API_SERVER_ADDRESS", "")
    found = found or (ray_address if ray_address.startswith("http") else _LOCAL)
    try:
        return JobSubmissionClient(found)
    except (ConnectionError, RuntimeError) as error:
        raise ConnectionError(
            f"{found}: no Ray dashboard answers there ({error}); give --address http://HEAD:8265"
        ) from error


def _submit(client: JobSubmissionClient, config: Submit) -> int:
    import time

    from handface.jobs.cli import BY_NAME

    verb, *flags = config.command or ("",)
    if verb not in BY_NAME or verb == "jobs":
        raise ValueError(
            f"no verb {verb!r} to submit; give `-- VERB FLAGS`, e.g. -- annotate --input urls.parquet --output s3://..."
        )
    entrypoint = shlex.join(["python", "-m", f"handface.jobs.{verb.replace('-', '_')}", *flags])
    runtime = {"working_dir": str(config.working_dir.absolute()), "excludes": [".git", ".venv", "out"]}
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            name = client.submit_job(entrypoint=entrypoint, submission_id=config.name or None, runtime_env=runtime)
            break
        except RuntimeError as error:
            if _STARTING not in str(error) or time.monotonic() > end:
                raise ConnectionError(f"the cluster did not take the job: {error}") from error
            time.sleep(1)
    print(name)
    return _follow(client, name) if config.wait else 0


def _status(client: JobSubmissionClient, name: str) -> int:
    from ray.job_submission import JobStatus

    jobs = [client.get_job_info(name)] if name else client.list_jobs()
    for job in sorted(jobs, key=lambda job: job.start_time or 0):
        seconds = ((job.end_time or 0) - (job.start_time or 0)) / 1000
        took = f"  {seconds:.0f} s" if seconds > 0 else ""
        print(f"{job.submission_id or job.job_id}  {job.status}{took}  {job.entrypoint}")
    return int(bool(name) and jobs[0].status == JobStatus.FAILED)


def _follow(client: JobSubmissionClient, name: str) -> int:
    import asyncio

    from ray.job_submission import JobStatus

    async def tail() -> None:
        async for lines in client.tail_job_logs(name):
            print(lines, end="", flush=True)

    asyncio.run(tail())
    status = client.get_job_status(name)
    if status != JobStatus.SUCCEEDED:
        print(f"{name}: {status} ({client.get_job_info(name).message})", file=sys.stderr)
    return int(status != JobStatus.SUCCEEDED)


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("jobs"))
