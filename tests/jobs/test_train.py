"""handface train: how flags and file meet, and what is refused before a run begins."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from handface.jobs.train import Config, resolve, run
from handface.trainers.config import OptimConfig, TrainConfig
from handface.trainers.data import DataConfig, DataError, DatasetConfig
from handface.trainers.losses import LossConfig
from tests.trainers.conftest import MakeRun, make_run, narrow_weights, shard
from tests.trainers.labelled import studio_samples

__all__ = ["make_run", "narrow_weights", "shard"]
ROOT = Path(__file__).parents[2]


def test_flags_make_a_run_and_override_a_file(tmp_path: Path) -> None:
    made = resolve(Config(train=("a=out/a:3", "out/b/"), wild=("s3://c/w:0.5",), preset="dice-nano", steps=70, seed=4))
    assert [(d.name, d.shards, d.weak, d.weight) for d in made.data.datasets] == [
        ("a", ("out/a",), False, 3.0),
        ("b", ("out/b/",), False, 1.0),
        ("w", ("s3://c/w",), True, 0.5),
    ]
    assert (made.data.image_size, made.steps, made.seed) == (128, 70, 4)
    path = tmp_path / "run.json"
    path.write_text(made.dumps())
    again = resolve(
        Config(
            config=path,
            batch_size=3,
            priors=("out/real",),
            set=("optim.ema=0.5", "output=x"),
            exclude=("gone",),
            found=("seen",),
        )
    )
    assert (again.data.batch_size, again.optim.ema, again.output) == (3, 0.5, "x")
    assert {(dataset.exclude, dataset.found) for dataset in again.data.datasets} == {(("gone",), ("seen",))}
    assert again.priors is not None and again.priors.real.hand[0].path == "out/real"
    assert again.optim == replace(made.optim, ema=0.5) and again.loss == made.loss


def test_initial_weights_bring_the_recipe_of_their_network() -> None:
    made = resolve(Config(train=("a",), init="dice-nano"))
    assert made == replace(resolve(Config(train=("a",), preset="dice-nano")), init="dice-nano")
    assert resolve(Config(train=("a",), init="dice-nano", preset="dice-s")).preset == "dice-s"


def test_the_preset_decides_the_recipe_unless_something_is_asked_for(tmp_path: Path) -> None:
    nano, small, paper = (resolve(Config(train=("a",), preset=name)) for name in ("dice-nano", "dice-s", "dice-w64"))  # type: ignore[arg-type]
    assert (nano.optim.lr, nano.optim.schedule, nano.optim.clip_norm, nano.optim.ema) == (1.5e-3, "cosine", 10.0, 0.995)
    assert (nano.loss.weights.parameters, nano.loss.contact) == (50.0, "root") and small.loss == nano.loss
    assert resolve(Config(train=("a",))) == small
    assert (paper.optim, paper.loss) == (OptimConfig(), LossConfig())
    path = tmp_path / "run.yaml"
    path.write_text("preset: dice-nano\ndata: {datasets: [{name: a, shards: [a]}]}\noptim: {lr: 2.0e-3}\n")
    changed = resolve(Config(config=path, set=("loss.weights.touch=7",)))
    assert changed.optim == replace(nano.optim, lr=2e-3) and changed.loss.weights.touch == 7
    assert changed.loss.weights.parameters == 50
    assert TrainConfig.for_preset("dice-nano", DataConfig((DatasetConfig("a", ("a",)),))) == nano


def test_pictures_have_the_size_that_the_network_sees(tmp_path: Path, narrow_weights: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"data": {"datasets": [{"name": "a", "shards": ["out/a"]}]}, "preset": "dice-nano"}')
    assert resolve(Config(config=path)).data.image_size == 128
    assert resolve(Config(config=path, preset="dice-s")).data.image_size == 224
    assert resolve(Config(config=path, init=str(narrow_weights))).data.image_size == 64


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --train SHARDS or --config FILE"):
        resolve(Config())
    path = tmp_path / "run.json"
    sets = '"data": {"datasets": [{"name": "a", "shards": ["out/a"]}]}'
    for text, message in (
        (f'{{{sets}, "steps": "many"}}', r"(?s)run\.json: .*steps"),
        (f'{{{sets}, "stepz": 3}}', r"run\.json: no setting stepz; did you mean steps\?"),
        (f'{{{sets}, "optim": {{"learning_rate": 1.0}}}}', r"no setting optim\.learning_rate; there are lr, betas"),
        (f'{{{sets}, "loss": {{"weights": {{"vertexes": 1}}}}}}', r"did you mean loss\.weights\.vertices\?"),
        (
            '{"data": {"datasets": [{"name": "a", "shards": ["x"], "exclud": []}]}}',
            r"datasets\[0\]\.exclud; did you mean .*exclude",
        ),
        (f'{{{sets}, "priors": {{"reel": 1}}}}', r"did you mean priors\.real\?"),
        ("[1]", "holds a list"),
        ('{"data": [1, 2]}', r"run\.json: data is \[1, 2\]; a group of settings is expected"),
        ("{", "not JSON"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            resolve(Config(config=path))
    with pytest.raises(ValueError, match=r"no setting optim\.emma; did you mean optim\.ema\?"):
        resolve(Config(train=("a",), set=("optim.emma=1",)))
    with pytest.raises(ValueError, match=r"--workers some: N or MIN\.\.MAX is expected"):
        run(Config(train=("out/a",), output=str(tmp_path / "run"), workers="some"))


def test_sets_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    sets = ("one/parts", "two/parts:0.5", "mine=three/parts", "s3://bucket/date=2024-01/parts")
    found = resolve(Config(train=sets[:3], wild=sets[3:])).data.datasets
    assert [(one.name, one.shards[0], one.weight, one.weak) for one in found] == [
        ("parts", "one/parts", 1.0, False),
        ("parts-2", "two/parts", 0.5, False),
        ("mine", "three/parts", 1.0, False),
        ("parts-3", "s3://bucket/date=2024-01/parts", 1.0, True),
    ]
    with pytest.raises(ValueError, match="different names"):
        resolve(Config(train=("a=one", "a=two")))


@pytest.mark.parametrize(
    "text", ["data:\n", "data:\n  datasets:\nvalidation:\n", "optim:\ndata:\n  augment:\n", "loss:\n  weights:\n", "\n"]
)
def test_an_empty_group_of_a_file_is_as_if_it_were_not_there(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"nothing to train on: .*data\.datasets"):
        resolve(Config(config=path, found=("found.parquet",)))
    resolved = resolve(Config(config=path, train=("out/a",), found=("found.parquet",)))
    assert [one.found for one in resolved.data.datasets] == [("found.parquet",)] and resolved.validation == ()


def test_a_checkpoint_of_another_version_may_have_other_settings() -> None:
    text = '{"data": {"datasets": [{"name": "a", "shards": ["a"]}], "gone": 1}, "older": 2}'
    assert TrainConfig.loads(text, strict=False).data.datasets[0].name == "a"
    with pytest.raises(ValueError, match=r"no setting data\.gone"):
        TrainConfig.loads(text)


def test_labels_of_a_body_that_is_missing_end_the_start(
    make_run: MakeRun, make_sample, write_tar, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    """Before, such a run trained without one 3D loss and said so in two lines of warning."""
    samples = studio_samples(make_sample, 4)
    mano = [replace(s, labels=replace(s.labels, hand_model="mano", head_model="flame-decaf")) for s in samples]
    shard = write_tar(tmp_path / "mano.tar", mano)
    with pytest.raises(DataError, match=r"data set mano\.tar: .* hand model 'mano'; give its file with --hand-model"):
        main_train(train=(str(shard),), output=str(tmp_path / "run"))
    photos = write_tar(tmp_path / "photos.tar", [make_sample(seed, side=64) for seed in range(3)])
    with pytest.raises(
        DataError, match=r"data set p: none of 3 samples gives a 3D label \(they have none\); give .* --wild"
    ):
        main_train(train=(f"p={photos}",), output=str(tmp_path / "run"))
    free = write_tar(tmp_path / "free.tar", samples)
    with pytest.raises(DataError, match=r"different hand models \(free\.tar: free-hand, mano\.tar: mano\)"):
        main_train(train=(str(free), str(shard)), output=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def main_train(**flags: object) -> int:
    return run(Config(preset="dice-nano", **flags))  # type: ignore[arg-type]


def test_a_dry_run_counts_labels_and_draws_a_batch(
    make_sample, write_tar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "studio.tar", studio_samples(make_sample, 6))
    write_tar(tmp_path / "wild.tar", [make_sample(seed, side=64) for seed in range(4)])
    sets = {"train": ("studio.tar:3",), "wild": ("wild.tar",)}
    before = sorted(tmp_path.iterdir())
    assert main_train(**sets, batch_size=4, dry_run=True) == 0
    assert sorted(tmp_path.iterdir()) == before and "drawn" not in capsys.readouterr().out
    write_tar(tmp_path / "held.tar", studio_samples(make_sample, 2))
    held = {"validation": ("held.tar",)}
    assert main_train(**sets, **held, batch_size=4, dry_run=True, output="out/run/") == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if ".tar" in line}
    assert rows["studio.tar"] == ["6", "6", "6", "6", "0", "75.0%", "2.0", "studio.tar"]
    assert rows["held.tar"] == ["2", "2", "2", "2", "0", "validation", "held.tar"]
    assert rows["wild.tar"] == ["4", "0", "0", "4", "0", "25.0%", "4.0", "wild.tar"]
    assert (tmp_path / "out/run-batch.png").stat().st_size > 1000 and not (tmp_path / "out/run").exists()


def test_validation_on_what_is_trained_on_is_said(
    tmp_path: Path, shard: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sets = {"train": (str(shard),), "output": str(tmp_path / "run"), "dry_run": True}
    assert main_train(**sets) == 0 and "trained on" not in caplog.text
    assert main_train(**sets, validation=(str(shard),)) == 0
    assert f"{shard}: trained on and validated on" in caplog.text


def test_an_estimate_says_how_long_a_run_takes(
    make_sample, write_tar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "studio.tar", studio_samples(make_sample, 6))
    assert main_train(train=("studio.tar",), batch_size=4, steps=100_000_000, estimate=True) == 0
    assert re.search(r"dice-nano: [\d.]+ s a step, [\d.e+]+ weeks for 100,000,000 steps", capsys.readouterr().out)
    assert not (tmp_path / "out").exists()


def test_the_resolved_configuration_is_written_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert run(Config(train=("out/a",), output=str(tmp_path / "run"), steps=9, dump_config=path)) == 0
    assert TrainConfig.loads(path.read_bytes()) == resolve(
        Config(train=("out/a",), output=str(tmp_path / "run"), steps=9)
    )
    assert not (tmp_path / "run").exists()
