from types import SimpleNamespace

import numpy as np
import pytest

from handface.pipeline.annotators import mediapipe
from handface.pipeline.annotators.detector import HandFaceDetector
from handface.pipeline.annotators.mediapipe import MediaPipeGraphs, has_graphs
from handface.pipeline.contract.detections import Detections

skimage_data = pytest.importorskip("skimage.data")


@pytest.mark.skipif(not has_graphs(), reason="the installed mediapipe has no graphs")
def test_the_reference_sees_the_face_that_ours_sees():
    image = skimage_data.astronaut()
    graphs = MediaPipeGraphs()
    (found, nobody) = graphs.annotate([image, skimage_data.coffee()])
    (face,) = found.faces
    (ours,) = HandFaceDetector().annotate([image])[0].faces
    assert np.abs(face.mesh[:, :2] - ours.mesh[:, :2]).mean() < 2
    assert nobody == Detections() and len(graphs.records()) == 4


def test_it_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(mediapipe, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install 'mediapipe"):
        MediaPipeGraphs()


def test_releases_without_graphs_are_told_from_those_with_them(tmp_path, monkeypatch):
    """From 1.0 on the package has neither graphs nor networks, and no folder `python`."""
    (tmp_path / "mediapipe").mkdir()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "mediapipe")])
    monkeypatch.setattr(mediapipe, "find_spec", lambda name: spec)
    monkeypatch.setattr(mediapipe, "installed", lambda names: {"mediapipe": "1.2.3"})
    with pytest.raises(ImportError, match=r"^annotator mediapipe: mediapipe 1\.2\.3 has no graphs"):
        MediaPipeGraphs()
    (tmp_path / "mediapipe" / "python" / "solutions").mkdir(parents=True)
    assert has_graphs()
