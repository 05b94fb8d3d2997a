"""Check this machine: packages, weights, disk, limits, GPU, Ray. Every line that is not ok says what to do. Exit 1 if one fails."""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from handface.extras import OPENCV_LIBRARIES
from handface.pipeline.engine.cluster import available_cpus

Level = Literal["ok", "warn", "fail"]
GIB = 1 << 30
# The oldest and the newest Python that labels and the way to a mesh were tried with: docs/results/install.md.
TESTED_PYTHON = ((3, 11), (3, 14))
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Check:
    """One line of the doctor's: `fix` is empty only where nothing needs fixing."""

    name: str
    level: Level
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Config:
    """Where the work will happen and how to say it."""

    output: str = "."
    """Folder the parts will be written to; its disk is looked at."""
    json: bool = False
    """Print one JSON document instead of text."""


def run(config: Config) -> int:
    """Run every check and print it. Returns 1 if one fails, else 0."""
    checks = list(_checks(Path(config.output)))
    if config.json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        _print(checks)
    return 1 if any(check.level == "fail" for check in checks) else 0


def _checks(output: Path) -> Iterator[Check]:
    """All checks; one that breaks is a failed check, never a crash."""
    every: list[Callable[[], Check | Iterator[Check]]] = [
        check_python,
        lambda: check_import("torch", "pip install torch"),
        check_torchvision,
        lambda: check_import("ray", "pip install 'ray[data]'"),
        check_opencv,
        check_tested_versions,
        check_detector,
        check_weights,
        check_gpu,
        check_memory,
        lambda: check_disk(output),
        check_shared_memory,
        check_open_files,
        check_ray_cluster,
    ]
    for check in every:
        try:
            result = check()
            yield from [result] if isinstance(result, Check) else result
        except Exception as error:
            name = getattr(check, "__name__", "check").removeprefix("check_")
            yield Check(name, "fail", f"the check itself broke: {type(error).__name__}: {error}", "report this line")


def check_python(found: tuple[int, int] = sys.version_info[:2]) -> Check:
    """3.11 or later; a later one than was tried may work."""
    oldest, newest = ("{}.{}".format(*number) for number in TESTED_PYTHON)
    detail = f"{found[0]}.{found[1]} at {sys.executable}"
    if found < TESTED_PYTHON[0]:
        return Check("python", "fail", detail, f"make a virtual environment with Python {oldest} or later")
    if found > TESTED_PYTHON[1]:
        fix = f"if something breaks, make a virtual environment with Python {newest}"
        return Check("python", "warn", f"{detail}; tried with {oldest} to {newest}", fix)
    return Check("python", "ok", detail)


def check_import(package: str, fix: str) -> Check:
    """Whether a package is there and imports."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        return Check(package, "fail", str(error), fix)
    return Check(package, "ok", version(package))


def check_torchvision() -> Iterator[Check]:
    """Not needed; but one that does not match torch breaks transformers and others that look for it."""
    try:
        found = version("torchvision")
    except PackageNotFoundError:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        detail = f"{found} is installed but does not import ({error})"
        yield Check("torchvision", "fail", detail, "nothing here needs it: pip uninstall torchvision")


def check_opencv() -> Iterator[Check]:
    """Imports, and only one wheel writes the cv2 folder."""
    wheels = {}
    for name in ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"):
        try:
            wheels[name] = version(name)
        except PackageNotFoundError:
            continue
    detail = ", ".join(f"{name} {number}" for name, number in wheels.items())
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        fix = OPENCV_LIBRARIES if ".so" in str(error) else "pip install opencv-contrib-python"
        yield Check("opencv", "fail", f"{detail}: {error}", fix)
        return
    if len(set(wheels.values())) > 1:
        fix = "uninstall them all, then pip install opencv-contrib-python"
        yield Check("opencv", "warn", f"{detail} overwrite each other", fix)
    else:
        yield Check("opencv", "ok", detail)


def check_tested_versions() -> Iterator[Check]:
    """Libraries that decide pixels and scores: with other versions a photo may get another key or score than in the tests."""
    from handface.pipeline.annotators.mediapipe import has_graphs
    from handface.pipeline.engine.libraries import TESTED, distributions, installed, untested

    # A mediapipe without graphs runs nothing here.
    found = installed(name for name in TESTED if name != "mediapipe" or has_graphs())
    other = untested(found)
    for name, (oldest, newest) in other.items():
        tested = newest if oldest == newest else f"{oldest} to {newest}"
        fix = f"pip install '{distributions(name)[0]}=={newest}', or -c constraints.txt for all at once"
        yield Check(f"tested {name}", "warn", f"{found[name]} is installed; labels were tested with {tested}", fix)
    if not other:
        yield Check("tested versions", "ok", ", ".join(f"{name} {number}" for name, number in found.items()))


def check_detector() -> Check:
    """The runtime of the detector's networks, and their files."""
    from handface.pipeline.annotators.detector import NETWORKS, DetectorConfig
    from handface.pipeline.annotators.networks.runtime import NetworkError, check_runtime
    from handface.pipeline.contract.model_store import ModelStore

    runtime = DetectorConfig().runtime
    try:
        check_runtime(runtime)
    except NetworkError as error:
        return Check("detector", "fail", str(error), f"pip install 'handface[{runtime.name}]'")
    absent = [name for name in NETWORKS if ModelStore().find(name) is None]
    if absent:
        fix = f"handface models pull {' '.join(absent)}  (to work offline later)"
        return Check(
            "detector", "warn", f"{runtime.name} {version(runtime.name)}; networks are fetched when first needed", fix
        )
    return Check("detector", "ok", f"{runtime.name} {version(runtime.name)} with {len(NETWORKS)} networks")


def check_weights() -> Iterator[Check]:
    """What the model store holds; a file with the wrong hash is as bad as none."""
    from handface.pipeline.contract.model_store import ModelError, ModelStore, models

    for name in models():
        try:
            path = ModelStore().find(name)
        except ModelError as error:
            yield Check(f"weights {name}", "fail", str(error), f"delete that file, then handface models pull {name}")
            continue
        if path is None:
            detail = "not in the model store; fetched when first needed"
            yield Check(f"weights {name}", "warn", detail, f"handface models pull {name}  (to work offline later)")
        else:
            yield Check(f"weights {name}", "ok", str(path))


def check_gpu() -> Check:
    """Not needed for the detector; used by depth and mmpose networks and by training."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("gpu", "ok", f"{len(names)}: {', '.join(dict.fromkeys(names))}, CUDA {torch.version.cuda}")
    if shutil.which("nvidia-smi"):
        detail = f"there is an NVIDIA driver, but torch {torch.__version__} does not see a GPU"
        return Check(
            "gpu", "warn", detail, "pip install --force-reinstall torch  (a CUDA build that the driver supports)"
        )
    return Check("gpu", "ok", "none; everything runs on the CPU")


def check_memory() -> Check:
    """RAM and cores this process may use: about 1 GiB for each worker, and 2 for Ray."""
    total = memory_limit()
    cores = available_cpus()
    detail = f"{total / GIB:.1f} GiB, {cores} cores"
    if total < 4 * GIB:
        return Check("memory", "warn", detail, "use --workers 1 or --local; 4 GiB is the least for two workers")
    return Check("memory", "ok", detail)


def memory_limit() -> int:
    """Bytes of RAM, or of the container's limit if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return total


def check_disk(output: Path) -> Check:
    """Free space where the parts go."""
    folder = output.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / GIB:.1f} GiB free at {folder}"
    if free < GIB:
        return Check("disk", "fail", detail, "free some space or choose another --output; a sample takes about 0.1 MB")
    if free < 10 * GIB:
        return Check(
            "disk",
            "warn",
            detail,
            "enough to try things out; a sample takes about 0.1 MB, and a run stopped by a full disk can be resumed",
        )
    return Check("disk", "ok", detail)


def check_shared_memory(path: str = "/dev/shm", needed: int = 512 << 20) -> Check:
    """Ray keeps its objects there; it falls back to /tmp, slowly, if it is too small."""
    if not Path(path).is_dir():
        return Check("shared memory", "ok", f"no {path} here; Ray uses the temporary folder")
    free = shutil.disk_usage(path).free
    detail = f"{free / GIB:.1f} GiB free at {path}"
    if free < needed:
        return Check("shared memory", "warn", detail, "give the container more: docker run --shm-size=2g")
    return Check("shared memory", "ok", detail)


def check_open_files(limits: tuple[int, int] | None = None, needed: int = 4096) -> Check:
    """Ray opens a few hundred files per worker."""
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{soft} (at most {hard})"
    if soft in (resource.RLIM_INFINITY, -1) or soft >= needed:
        return Check("open files", "ok", detail)
    fix = f"ulimit -n {min(65536, hard) if hard > 0 else 65536}" if hard >= needed else "raise nofile in limits.conf"
    return Check("open files", "warn", detail, fix)


def check_ray_cluster() -> Iterator[Check]:
    """The cluster that RAY_ADDRESS names, and whether both sides agree about tokens."""
    address, mode = os.environ.get("RAY_ADDRESS"), os.environ.get("RAY_AUTH_MODE", "")
    if not address:
        yield Check("ray cluster", "ok", "RAY_ADDRESS is not set: a small local Ray is started for each run")
    elif address in ("auto", "local"):
        yield Check("ray cluster", "ok", f"RAY_ADDRESS={address}")
    else:
        yield _reachable(address)
    token = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if not token and (Path.home() / ".ray" / "auth_token").is_file():
        token = "~/.ray/auth_token"
    if token and mode == "":
        fix = "export RAY_AUTH_MODE=token (or disabled) for `ray start`, `ray job submit` and this shell alike"
        yield Check("ray token", "warn", "a token exists, but RAY_AUTH_MODE does not say whether to use it", fix)
    elif mode == "token" and not token:
        yield Check("ray token", "fail", "RAY_AUTH_MODE=token, but there is no token", "ray get-auth-token --generate")


def _reachable(address: str) -> Check:
    host, _, port = address.partition("://")[2].rpartition(":") if "://" in address else address.rpartition(":")
    fix = "start it (`ray start --head`), correct RAY_ADDRESS, or unset it to run locally"
    if not host or not port.strip("/").isdigit():
        return Check("ray cluster", "fail", f"RAY_ADDRESS={address} is not host:port", fix)
    try:
        socket.create_connection((host.strip("[]"), int(port.strip("/"))), timeout=3).close()
    except (OSError, OverflowError) as error:
        return Check("ray cluster", "fail", f"RAY_ADDRESS={address} does not answer ({error})", fix)
    return Check("ray cluster", "ok", f"RAY_ADDRESS={address} answers")


def _print(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    width = max(len(check.name) for check in checks)
    for check in checks:
        console.print(
            Text(f"{check.level:<5}", style=_COLOURS[check.level]) + Text(f"{check.name:<{width}}  {check.detail}")
        )
        if check.fix:
            console.print(Text(f"{'':<{width + 7}}-> {check.fix}", style="bold"))
    counts = {level: sum(check.level == level for check in checks) for level in _COLOURS}
    console.print(", ".join(f"{count} {level}" for level, count in counts.items()))


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("doctor"))
