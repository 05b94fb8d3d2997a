"""The sdist and the wheel built from it, installed into an environment of its own, beside files that bear the names of our folders."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from handface.jobs.demonstration.pictures import demo_files

ROOT = Path(__file__).parents[2]
ROOMS = ("jobs", "model", "pipeline", "trainers")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build folder is left in the tree."""
    copy, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(target)], cwd=copy, stdout=subprocess.DEVNULL, check=True, timeout=240
    )
    return next(target.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as pip does where there is no wheel."""
    target = tmp_path_factory.mktemp("wheel")
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(sdist)]
    subprocess.run([sys.executable, "-m", *build], check=True, timeout=240)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment: the wheel, and the dependencies of this one by path."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # A line in a .pth file adds a folder without reading its own .pth files: no editable install of ours is found through it.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A working folder whose own modules must not be taken for ours."""
    for room in ROOMS:
        (tmp_path / f"{room}.py").write_text("raise RuntimeError('not handface')\n")
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise RuntimeError('not handface')\n")
    return tmp_path


def test_sdist_holds_what_builds_and_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= names
    assert not [name for name in names if name.split("/")[0] in ("tests", "benchmarks", "findings")]
    assert sdist.stat().st_size < 25_000_000


def test_wheel_holds_only_handface_with_its_data_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"handface"}
    assert not [name for name in names if "test" in Path(name).parts[0] or "/tests/" in name]
    for data in ("pipeline/contract/models.toml", "model/bodies/data/hand.npz", "jobs/page/index.html"):
        assert f"handface/{data}" in names
    folders = ("pipeline", "model", "trainers", "jobs")
    tracked = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not [name for name in tracked.stdout.splitlines() if f"handface/{name}" not in names]
    assert wheel.stat().st_size < 25_000_000


def test_installed_package_predicts_beside_files_of_our_folders_names(python: Path, hostile_folder: Path) -> None:
    (hostile_folder / "photo.jpg").write_bytes(dict(demo_files())["touch_astronaut_right.jpg"])
    code = (
        "import handface, sys\n"
        "people = handface.load().predict('photo.jpg').persons\n"
        "print(len(people), handface.__file__, sys.modules['handface.model'].__file__)\n"
    )
    done = subprocess.run([python, "-c", code], cwd=hostile_folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    count, *files = done.stdout.split()
    assert int(count) >= 1 and all("site-packages" in file for file in files)


def test_every_verb_of_the_installed_package_shows_its_help(python: Path, hostile_folder: Path) -> None:
    done = subprocess.run(
        [python, "-m", "handface", "annotate", "--help"],
        cwd=hostile_folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "--input" in done.stdout, done.stderr
