"""`handface bodies`: what it prints and refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handface.jobs.cli import main
from handface.model.bodies.load import DATA


def test_info_shows_counts_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bodies", "info", "free-head"]) == 0
    shown = capsys.readouterr().out
    for words in ("4344, 8636", "1675, 559", "jawOpen", "ibug68 (68)", "anny==0.6.2"):
        assert words in shown


def test_info_names_a_missing_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bodies", "info", str(tmp_path / "none.npz")]) == 2
    assert "none.npz: no such file" in capsys.readouterr().err


def test_import_converts_once_to_a_body_that_loads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file with MANO's keys, made from the free hand's numbers."""
    from handface.model.bodies import load_body

    free = load_body("free-hand")
    rng = np.random.default_rng(0)
    regressor = rng.dirichlet(np.ones(free.num_vertices), 16)
    np.savez(
        tmp_path / "MANO_RIGHT.npz",
        v_template=free.arrays.template,
        shapedirs=free.arrays.shapedirs.astype(np.float32),
        posedirs=np.zeros((free.num_vertices, 3, 135)),
        J_regressor=regressor,
        weights=free.arrays.weights,
        kintree_table=np.array([[2**32 - 1, *free.arrays.parents[1:]], range(16)], np.uint32),
        f=free.arrays.faces,
        hands_mean=np.zeros(45),
        hands_components=np.eye(45),
    )
    output = tmp_path / "bodies" / "mano.npz"
    assert main(["bodies", "import", str(tmp_path / "MANO_RIGHT.npz"), "--output", str(output)]) == 0
    assert "load it with load_body" in capsys.readouterr().out
    imported = load_body(output, "decaf")
    assert imported().vertices.shape == (1, 1609, 3) and len(imported.levels[0].keep) == 195
    assert imported.arrays.provenance["files"][0]["name"] == "MANO_RIGHT.npz"


def test_import_names_a_wrong_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bodies", "import", str(DATA / "skin.npz"), "--output", str(tmp_path / "x.npz")]) == 2
    assert "skin.npz: key 'v_template' is missing" in capsys.readouterr().err
