"""Rerun recordings: written whole, with every mesh, and with the notice of an untrained network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from handface.model.outputs import write_recording
from handface.model.outputs.mesh_files import NOTE
from tests.model.outputs.synthetic import picture, prediction


@pytest.mark.parametrize("trained", [True, False])
def test_a_recording_holds_photo_meshes_and_notice(tmp_path: Path, trained: bool) -> None:
    path = tmp_path / "photo.rrd"
    image, found = picture(3), prediction(3, trained=trained)
    write_recording(path, image, found)
    data = path.read_bytes()
    assert data[:3] == b"RRF"
    for name in (b"/photo", b"/people/0/hand", b"/people/0/head"):
        assert name in data
    assert (b"/notice" in data and NOTE.encode() in data) is not trained


def test_without_the_sdk_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ImportError, match=r"pip install 'handface\[rerun\]'"):
        write_recording(tmp_path / "photo.rrd", picture(3), prediction(3))
