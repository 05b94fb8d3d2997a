"""Runs whose folder is on an object store, or that somebody else holds; and ranks whose launcher is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handface.jobs.cli import main
from handface.pipeline.contract.lock import LockedError, lock_folder
from handface.pipeline.contract.storage import Folder
from handface.trainers import trainer
from handface.trainers.data import DatasetConfig, make_loader
from handface.trainers.evaluation.setup import open_network
from handface.trainers.run_folder.checkpoint import list_checkpoints
from handface.trainers.run_folder.storage import with_retries
from handface.trainers.trainer import train
from tests.object_store import s3_bucket
from tests.trainers.conftest import MakeRun
from tests.trainers.data.test_storage import write_part
from tests.trainers.labelled import studio_samples

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bucket() -> Iterator[str]:
    """A bucket on a server of our own, on loopback."""
    with s3_bucket() as uri:
        yield uri


def steps(text: bytes) -> list[int]:
    return [line["step"] for line in map(json.loads, text.decode().splitlines()) if "loss" in line]


def test_a_run_on_an_object_store_is_whole_there_and_goes_on_from_there(
    make_run: MakeRun, shard: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = (DatasetConfig("held", (str(shard),), limit=2),)
    config = make_run(output=f"{bucket}/runs/one", steps=2, validate_every=9, validation=held, checkpoint_every=1)
    train(config)
    folder = Folder(config.output)
    assert list_checkpoints(config.output) == ["step-000000001.pt", "step-000000002.pt"]
    for name in ("config.json", "best/model.safetensors", "best/config.json", "last/training.json"):
        assert folder.exists(name), name
    assert folder.filesystem.ls(folder.path("tensorboard"))
    train(replace(config, steps=3, validation=()))
    assert steps(folder.read("log.jsonl")) == [1, 2, 3]
    assert list_checkpoints(config.output) == ["step-000000002.pt", "step-000000003.pt"]
    assert not list(tmp_path.glob("s3:*"))
    # its weights are evaluated, and start another run
    network, sizes = open_network(f"{config.output}/best", None, None, torch.device("cpu"))
    assert network is not None and sizes.hand.body == "free-hand"
    with pytest.raises(FileNotFoundError, match=r"s3://bucket/runs/none/config\.json: no such file"):
        open_network(f"{bucket}/runs/none", None, None, torch.device("cpu"))
    train(replace(make_run("next", steps=1), init=f"{config.output}/best"))


def test_the_log_of_a_run_that_is_ended_is_in_the_store_too(make_run: MakeRun, bucket: str) -> None:
    config = make_run(output=f"{bucket}/runs/ended", steps=9, checkpoint_every=100)
    before = set(Path(tempfile.gettempdir()).glob("handface-log-*"))
    with pytest.raises(SystemExit):
        train(config, lambda step, values: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None)
    assert steps(Folder(config.output).read("log.jsonl")) == [1, 2]
    assert set(Path(tempfile.gettempdir()).glob("handface-log-*")) <= before


def test_a_cold_start_asks_a_store_for_little_more_than_its_first_batch(
    make_run: MakeRun, make_sample, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    """Samples are found by the part's table; the shard itself is never read through."""
    from s3fs import S3FileSystem

    part = write_part(tmp_path / "part", studio_samples(make_sample, 12), filler=250_000)
    names = sorted(file.name for file in part.parent.iterdir())
    for name in names:
        Folder(f"{bucket}/part").write(name, (part.parent / name).read_bytes())
    got: list[int] = []
    call = S3FileSystem._call_s3

    async def counted(self, method, *arguments, **options):  # type: ignore[no-untyped-def]
        answer = await call(self, method, *arguments, **options)
        if method == "get_object":
            got.append(int(answer["ContentLength"]))
        return answer

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    config = make_run(steps=1, batch_size=2)
    data = replace(config.data, datasets=(DatasetConfig("part", (f"{bucket}/part",)),), hand_body=None, head_body=None)
    loader = make_loader(replace(data, hand_body="free-hand", head_body="free-head"), pin_memory=False)
    size = part.stat().st_size
    assert 0 < sum(got) < 0.02 * size
    next(iter(loader))
    assert sum(got) < 2.3 / 12 * size
    got.clear()
    train(replace(config, data=replace(data, index_folder=str(tmp_path / "fresh"))))
    # the table, one sample for the names of the bodies and again for its labels, two of the batch
    assert sum(got) < 4.3 / 12 * size


def test_a_bucket_without_rights_is_one_sentence(
    make_run: MakeRun,
    bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = tmp_path / "run.json"
    settings.write_text(make_run(output=f"{bucket}/run").dumps())
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    for flags in ([], ["--train", f"{bucket}/part", "--output", str(tmp_path / "run")]):
        assert main(["train", "--config", str(settings), *flags]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert error.startswith("handface train: error: ") and "s3://bucket/" in error, error
        assert "Traceback" not in error and len(error) < 400, error
    assert not (tmp_path / "run").exists()


def test_no_key_at_all_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not tried again for five minutes, as a store is that does not answer."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    start = time.monotonic()
    with pytest.raises(PermissionError, match=r"s3://bucket/x: the store refuses access .* check the key"):
        with_retries("x", Folder("s3://bucket/x").read, "a")
    assert time.monotonic() - start < 60


def test_two_starts_in_one_folder_do_not_train_together(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_LOCAL_WAIT_S", 0.0)
    config = make_run(steps=1)
    with (
        lock_folder(Folder(config.output), "train"),
        pytest.raises(LockedError, match=r"run: `train` \(process \d+ on"),
    ):
        train(config)
    assert train(config).steps == 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_ranks_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "from handface.trainers.distributed.ranks import init_process_group\n"
        "with init_process_group() as ranks:\n"
        f"    open(os.path.join({str(tmp_path)!r}, str(os.getpid())), 'w').close()\n"
        "    time.sleep(120)\n"
    )
    (tmp_path / "rank.py").write_text(code)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(
        [*launcher, str(tmp_path / "rank.py")], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    pids: list[int] = []
    try:
        end = time.monotonic() + 120
        while len(pids) < 2:
            assert time.monotonic() < end and started.poll() is None
            time.sleep(0.1)
            pids = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
        started.send_signal(signal.SIGKILL)
        started.wait(10)
        end = time.monotonic() + 20
        while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < end, f"ranks {left} live on"
            time.sleep(0.1)
    finally:
        started.kill()
        for pid in pids:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
