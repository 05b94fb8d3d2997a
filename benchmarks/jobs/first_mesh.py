"""From a clone to the first mesh of one's own photo, in a fresh environment with empty caches: seconds of the clock and of CPU, megabytes.

    python -m benchmarks.jobs.first_mesh --photo photo.jpg --before COMMIT [--installers uv pip]

Seconds of CPU tell more than the clock on a machine that does other things too. Runs the lines of README's "Install" for a CPU, in a clone of this checkout and in one of `--before`, in turn. Indexes, mirrors and
links are those that uv and pip are set up with; `--torch` names the build without CUDA that the README's second line brings.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.results import Figure, save_figures

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Config:
    """What to install, how, and what to try it on."""

    photo: Path
    """A photo with a hand at a face."""
    before: str = ""
    """A commit to compare with."""
    installers: tuple[Literal["uv", "pip"], ...] = ("uv", "pip")
    uv: str = shutil.which("uv") or "uv"
    """The program."""
    torch: str = "torch"
    """Requirement for the torch that is installed first."""
    python: str = sys.executable
    """Interpreter of the environments."""


@dataclass(frozen=True)
class Step:
    """One command: its words, and the figure's column."""

    column: str
    command: tuple[str, ...]


def main(config: Config) -> int:
    """Measure and save. Returns 0, or 1 if a command failed."""
    trees = {"now": "HEAD"} | ({"before": config.before} if config.before else {})
    command = f"python -m benchmarks.jobs.first_mesh --photo {config.photo.name}" + f" --before {config.before}" * bool(
        config.before
    )
    code = 0
    for installer in config.installers:
        for name, commit in trees.items():
            with tempfile.TemporaryDirectory(prefix="first-mesh-") as scratch:
                figures: list[Figure] = []
                row, total, cpu = f"first mesh | {installer}, {name}", 0.0, 0.0
                for step in _steps(installer, config, commit, Path(scratch)):
                    seconds, used, good = _run(step, Path(scratch))
                    total, cpu = total + seconds, cpu + used
                    text = f"{seconds:.0f} s ({used:.0f})" if good else "failed"
                    figures.append(Figure(f"{row} | {step.column}", text))
                    if not good:
                        code = 1
                        break
                figures.append(Figure(f"{row} | all", f"{total // 60:.0f}:{total % 60:02.0f} ({cpu:.0f})"))
                figures.append(Figure(f"{row} | on disk", f"{_megabytes(Path(scratch) / 'venv'):,.0f}", "MB"))
                figures.append(Figure(f"{row} | packages", str(_packages(Path(scratch) / "venv"))))
                save_figures("install", figures, command)
    return code


def _steps(installer: str, config: Config, commit: str, scratch: Path) -> Iterator[Step]:
    tree, python = scratch / "handface", scratch / "venv" / "bin" / "python"
    yield Step("clone", ("bash", "-c", f"git clone -q {ROOT} {tree} && git -C {tree} checkout -q {_hash(commit)}"))
    if installer == "uv":
        yield Step("environment", (config.uv, "venv", "-q", "--python", config.python, str(scratch / "venv")))
        install: tuple[str, ...] = (config.uv, "pip", "install", "-q", "--python", str(python))
    else:
        yield Step("environment", (config.python, "-m", "venv", str(scratch / "venv")))
        install = (str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    yield Step("torch", (*install, config.torch))
    yield Step("handface", (*install, str(tree)))
    photo, output = str(config.photo.absolute()), str(scratch / "out")
    yield Step("predict", (str(python.parent / "handface"), "predict", photo, "--output", output))


def _hash(commit: str) -> str:
    done = subprocess.run(["git", "rev-parse", commit], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _run(step: Step, scratch: Path) -> tuple[float, float, bool]:
    """Seconds of the clock, seconds of CPU, and whether it ended well."""
    caches = {"UV_CACHE_DIR": "uv", "PIP_CACHE_DIR": "pip", "XDG_CACHE_HOME": "cache"}
    environment = os.environ | {name: str(scratch / folder) for name, folder in caches.items()}
    environment.pop("VIRTUAL_ENV", None)
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(step.command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=1800)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:6.1f} s  {' '.join(step.command)}", flush=True)
    if done.returncode:
        print(done.stdout[-2000:] + done.stderr[-2000:], file=sys.stderr)
    return seconds, used, done.returncode == 0


def _megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def _packages(environment: Path) -> int:
    return len(list(environment.glob("lib/python*/site-packages/*.dist-info")))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
