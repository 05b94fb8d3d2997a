"""handface rehearse: URLs to a dataset on three Ray nodes, one of which is killed; and the small web it crawls."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from handface.jobs.rehearsal.web import serve
from handface.jobs.rehearse import Config, RehearsalCheck, run, show

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_node_that_dies_costs_nothing_and_everybody_reads_the_dataset(tmp_path: Path) -> None:
    """As a person starts it, for Ray must not have been imported before; the verb itself checks every number."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [
        sys.executable,
        "-m",
        "jobs.rehearse",
        "--output",
        str(tmp_path / "out"),
        "--scenes",
        "8",
        "--sites",
        "4",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one node was killed, 1 of the working nodes left" in done.stderr + done.stdout
    assert "WRONG" not in done.stdout and "not installed" not in done.stdout
    names = {path.name for path in (tmp_path / "out" / "dataset").iterdir()}
    assert {"manifest.json", "README.md", "croissant.json", "licences.csv", "SHA256SUMS", "index.parquet"} <= names


def test_a_number_that_is_wrong_fails_the_rehearsal(capsys: pytest.CaptureFixture[str]) -> None:
    assert show([RehearsalCheck("a", 3, 3), RehearsalCheck("library that is not here", None, 3)]) == 0
    assert show([RehearsalCheck("a", 3, 3), RehearsalCheck("b", 2, 3)]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_what_cannot_be_rehearsed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        run(Config(output=tmp_path / "out", nodes=1))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="not empty"):
        run(Config(output=tmp_path))


def test_the_web_has_pages_lists_rules_and_trouble(tmp_path: Path) -> None:
    pictures = [tmp_path / f"{i}.jpg" for i in range(5)]
    for path in pictures:
        path.write_bytes(path.name.encode())
    with serve(pictures, sites=2) as web:

        def get(host: str, path: str) -> bytes:
            request = urllib.request.Request(
                f"http://127.0.0.1:{web.port}{path}", headers={"Host": f"{host}:{web.port}"}
            )
            with urllib.request.urlopen(request, timeout=5) as answer:
                body: bytes = answer.read()
                return body

        assert web.seeds() == [f"http://site0.test:{web.port}/"]
        assert all(f'"/{i}.jpg"'.encode() in get("site0.test", "/") for i in (0, 2, 4))
        assert get("site1.test", "/3.jpg") == b"3.jpg" and b"Disallow" in get("site1.test", "/robots.txt")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get("site0.test", "/3.jpg")  # another site's
        assert web.write_list(tmp_path / "urls.csv") == 4
    rows = list(csv.DictReader((tmp_path / "urls.csv").open()))
    assert [row["url"].rpartition("/")[2] for row in rows] == ["1.jpg", "3.jpg", "a.jpg", "gone.jpg"]
    assert rows[0]["licence"] == "CC0-1.0"
