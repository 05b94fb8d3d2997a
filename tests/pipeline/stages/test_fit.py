"""Fitted 3D labels: they lie on the sample's keypoints, say that they are fitted, and no evaluation takes them for truth."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.model.bodies import load_body
from handface.model.bodies.load import FREE
from handface.model.weights.checkpoint import TENSORS
from handface.model.weights.named import EMBEDDED
from handface.pipeline.contract.checks.sample import check_sample
from handface.pipeline.contract.config import differences
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.model_store import file_sha256
from handface.pipeline.contract.sample import (
    LEFT,
    KeypointDepth,
    Labels,
    Sample,
    SampleError,
    decode_labels,
    encode,
    encode_labels,
)
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.fit import FitStage, FitStageConfig, sample_detection, settled
from handface.pipeline.synthesis.make import SynthesisConfig, make_sample

TWO_D = ("face_keypoints_2d", "hand_keypoints_2d", "hand_side")


@pytest.fixture(scope="module")
def stage() -> FitStage:
    made = FitStage(FitStageConfig(model="dice-nano"))
    made.setup()
    return made


def record(sample: Sample) -> Record:
    from handface.pipeline.contract.detections import Hand

    flat = Labels(**{name: getattr(sample.labels, name) for name in TWO_D})
    hand = Hand(sample.labels.hand_keypoints_2d[0], "right", 1.0)
    return Record(SourceItem("x"), sample=replace(sample, labels=flat), person_hands=[hand])


@pytest.fixture(scope="module", params=[0, 1], ids=["first", "second"])
def scene(request) -> Sample:
    """Two scenes, a left and a right hand."""
    config = SynthesisConfig(seed=5, size=192)
    found = (make_sample(k, config) for k in range(20))
    return next(one for one in found if int(one.labels.hand_side[0]) == request.param)


def test_fitted_labels_lie_on_the_keypoints_and_keep_the_contract(stage: FitStage, scene: Sample) -> None:
    one = record(scene)
    stage([one])
    sample = one.sample
    assert sample is not None and sample.labels.origin_3d == "fitted"
    assert sample.labels.fit_quality is not None and 0.5 < sample.labels.fit_quality <= 1
    assert not list(check_sample(sample.key, encode(sample)))
    labels = decode_labels(encode_labels(sample.labels))
    size = np.ptp(labels.face_keypoints_2d[:, :2], axis=0).max()
    side = "left" if labels.hand_side[0] == LEFT else "right"
    for part, body, points in (
        ("hand", load_body("free-hand", "free", side=side), labels.hand_keypoints_2d[0]),
        ("head", load_body("free-head", "free"), labels.face_keypoints_2d),
    ):
        given = {name: getattr(labels, f"{part}_{name}") for name in ("betas", "pose", "global_orient", "transl")}
        if part == "head":
            given["expression"] = labels.head_expression
        posed = body(**{name: torch.tensor(value).reshape(1, -1) for name, value in given.items()})
        keypoints = posed.keypoints[0].numpy()
        np.testing.assert_allclose(keypoints, getattr(labels, f"{part}_keypoints_3d"), atol=1e-4)
        pixels = keypoints @ labels.camera_intrinsics.T
        off = np.linalg.norm(pixels[:, :2] / pixels[:, 2:] - points[:, :2], axis=1)[17 if part == "head" else 0 :]
        assert off.mean() < 0.03 * size
    (fit,) = [annotator for annotator in sample.meta.annotators if annotator.task == "fit"]
    assert (fit.name, fit.licence) == ("fit-dice-nano", "Apache-2.0")
    assert fit.weights_sha256 == file_sha256(EMBEDDED / "dice-nano" / TENSORS)


def test_labels_name_the_hash_and_licence_of_a_network_of_ones_own(tmp_path: Path, scene: Sample) -> None:
    own = tmp_path / "own"
    shutil.copytree(EMBEDDED / "dice-nano", own)
    for licence in ("unknown", "CC-BY-NC-4.0"):
        stage = FitStage(FitStageConfig(model=str(own), licence=licence))
        stage.setup()
        one = record(scene)
        stage([one])
        assert one.sample is not None
        fit = one.sample.meta.annotators[-1]
        assert (fit.name, fit.licence, fit.weights_sha256) == ("fit-own", licence, file_sha256(own / TENSORS))


def test_a_run_knows_which_weights_and_bodies_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EMBEDDED / "dice-nano", "own")
    shutil.copy(FREE["free-hand"], "hand.npz")
    config = FitStageConfig(model="own", hand_model="hand.npz")
    first = settled(config)
    assert (first.model, first.hand_model) == (str(tmp_path / "own"), str(tmp_path / "hand.npz"))
    assert len(first.weights_digest) == 64 and settled(config) == first
    Path("hand.npz").write_bytes(Path("hand.npz").read_bytes() + b" ")
    second = settled(config)
    shutil.copy(EMBEDDED / "dice-m" / TENSORS, Path("own") / TENSORS)
    assert len({one.weights_digest for one in (first, second, settled(config))}) == 3
    told = differences(asdict(first), asdict(second))
    assert told == ["weights_digest: the files have other content than when the run began"]
    assert settled(FitStageConfig(model="dice-nano")).model == "dice-nano"
    assert settled(FitStageConfig()) == FitStageConfig()


def test_weights_on_an_object_store_are_taken_from_there() -> None:
    uri = "memory://fit-weights/own"
    for file in (EMBEDDED / "dice-nano").iterdir():
        Folder(uri).write(file.name, file.read_bytes())
    stage = FitStage(FitStageConfig(model=uri, licence="CC0-1.0"))
    stage.setup()
    assert settled(stage.config).model == uri and settled(stage.config).weights_digest
    assert stage._record.weights_sha256 == file_sha256(EMBEDDED / "dice-nano" / TENSORS)


def test_a_presets_licence_is_its_own() -> None:
    FitStage(FitStageConfig(model="dice-nano", licence="Apache-2.0")).setup()
    with pytest.raises(ValueError, match=r"fit\.licence CC-BY-4\.0: dice-nano comes with handface under Apache-2\.0"):
        FitStage(FitStageConfig(model="dice-nano", licence="CC-BY-4.0")).setup()


def test_the_same_sample_gives_the_same_bytes_whoever_is_beside_it(stage: FitStage, scene: Sample) -> None:
    alone, among, other = record(scene), record(scene), record(scene)
    stage([alone])
    stage([other, among])
    assert encode_labels(alone.sample.labels) == encode_labels(among.sample.labels)


def test_depth_that_tells_a_hand_from_a_face_moves_the_hand(stage: FitStage, scene: Sample) -> None:
    true = next(iter(scene.labels.keypoint_depth.values())).values
    nearer = true.copy()
    nearer[68:, 0] -= 0.1  # metres

    def distance(source: str, kind: str, values: np.ndarray) -> float:
        one = record(scene)
        labels = replace(one.sample.labels, keypoint_depth={source: KeypointDepth(values, kind)})
        one.sample = replace(one.sample, labels=labels)
        stage([one])
        fitted = one.sample.labels
        return float(fitted.hand_keypoints_3d[:, 2].mean() - fitted.head_keypoints_3d[:, 2].mean())

    assert distance("other", "metric", nearer) < distance("other", "metric", true) - 0.02
    # FastDepth does not see hands, and MediaPipe's z starts anew in each part
    assert distance("fastdepth", "affine", nearer) == distance("fastdepth", "affine", true)
    assert distance("mediapipe", "affine-per-part", nearer) == distance("mediapipe", "affine-per-part", true)


def test_depth_can_be_left_out(stage: FitStage, scene: Sample) -> None:
    def fitted(depth: bool, values: dict[str, KeypointDepth]) -> Labels:
        one = record(scene)
        one.sample = replace(one.sample, labels=replace(one.sample.labels, keypoint_depth=values))
        stage.config = replace(stage.config, depth=depth)
        stage([one])
        stage.config = replace(stage.config, depth=True)
        return one.sample.labels

    with_depth, without = scene.labels.keypoint_depth, {}
    np.testing.assert_array_equal(fitted(False, with_depth).hand_transl, fitted(True, without).hand_transl)
    assert not np.array_equal(fitted(True, with_depth).hand_transl, fitted(True, without).hand_transl)


def test_without_a_network_nothing_is_fitted(scene: Sample) -> None:
    one = record(scene)
    before = one.sample
    off = FitStage()
    off.setup()
    off([one])
    assert one.sample is before


def test_a_sample_without_a_hand_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="a face and of a hand"):
        sample_detection(Labels(face_keypoints_2d=np.zeros((68, 3), np.float32)))


@pytest.mark.parametrize("origin, quality", [("guessed", None), ("fitted", None), ("exact", 0.5), ("fitted", 1.5)])
def test_a_header_that_hides_what_was_fitted_is_refused(origin, quality) -> None:
    blob = encode_labels(Labels(face_keypoints_2d=np.zeros((68, 3), np.float32), origin_3d=origin, fit_quality=quality))
    with pytest.raises(SampleError, match=r"origin_3d|fit_quality"):
        decode_labels(blob)
