"""Batches: the same for any workers and ranks, exact resume, what is refused and what is passed over."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from handface.pipeline.contract.exclusion import ExclusionError
from handface.pipeline.contract.sample import Sample, encode
from handface.pipeline.contract.shards import ShardError
from handface.trainers.batch import Batch
from handface.trainers.data import DataConfig, DataError, DatasetConfig, make_loader, make_pass

MakeConfig = Callable[..., DataConfig]


def keys(batches: Iterable[Batch]) -> list[str]:
    return [key for batch in batches for key in batch.keys]


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.keys == other.keys
    for name in ("origins", "images", "face_keypoints_2d", "hand_keypoints_2d", "visibility", "keypoint_depth"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for part in ("hand", "head"):
        for name in ("betas", "expression", "pose", "global_orient", "transl"):
            assert torch.equal(getattr(getattr(one, part), name), getattr(getattr(other, part), name)), (part, name)
    for name in ("hand_contact", "head_contact", "head_deformation", "has_mesh", "has_contact", "has_deformation"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_shapes_and_types(config: MakeConfig, studio: Path, wild: Path) -> None:
    batch = next(iter(make_loader(config(studio, wild, batch_size=12))))
    assert len(batch) == 12 and batch.images.shape == (12, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.face_keypoints_2d.shape == (12, 68, 3) and batch.hand_keypoints_2d.shape == (12, 21, 3)
    assert batch.visibility.shape == (12, 89) and batch.keypoint_depth.shape == (12, 89, 2)
    assert batch.hand.betas.shape == (12, 10) and batch.hand.pose.shape == (12, 45)
    assert batch.hand.expression.shape == (12, 0)
    assert batch.head.betas.shape == (12, 100) and batch.head.expression.shape == (12, 51)
    assert batch.head.pose.shape == (12, 12)
    assert batch.hand_contact.shape == (12, 1609) and batch.head_deformation.shape == (12, 4344, 3)
    assert set(batch.origins.tolist()) == {0, 1}
    assert torch.equal(batch.has_mesh, batch.origins == 0) and torch.equal(batch.has_contact, batch.origins == 0)
    assert (batch.depth_kind[batch.origins == 0] == 3).all() and (batch.depth_kind[batch.origins == 1] == 0).all()
    assert not batch.head.betas[batch.origins == 1].any() and not batch.decaf_head.any()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(config: MakeConfig, studio: Path, wild: Path, workers: int) -> None:
    plain = islice(make_loader(config(studio, wild)), 5)
    for one, other in zip(plain, islice(make_loader(config(studio, wild, workers=workers)), 5), strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_change_nothing(config: MakeConfig, studio: Path, wild: Path, world: int) -> None:
    whole = [next(iter(make_loader(config(studio, wild, batch_size=8))))]
    shares = [
        next(iter(make_loader(config(studio, wild, batch_size=8 // world), rank, world))) for rank in range(world)
    ]
    assert keys(shares) == keys(whole)
    assert torch.equal(torch.cat([share.images for share in shares]), whole[0].images)
    assert torch.equal(torch.cat([share.hand.transl for share in shares]), whole[0].hand.transl)


def test_resume_with_another_number_of_ranks(config: MakeConfig, wild: Path) -> None:
    """Two ranks, then one, then four with other batch sizes: together they consume the stream of an uninterrupted run."""
    straight = keys(islice(make_loader(config(wild, batch_size=4)), 12))
    consumed: list[str] = []
    state: dict[str, Any] = {}
    for world, batch_size, steps in ((2, 4, 2), (1, 4, 2), (4, 3, 2)):
        shares = []
        for rank in range(world):
            loader = make_loader(config(wild, batch_size=batch_size), rank, world)
            if state:
                loader.load_state_dict(state)
            shares.append(list(islice(loader, steps)))
        state = loader.state_dict()
        consumed += [key for k in range(steps) for share in shares for key in share[k].keys]
        assert state["position"] == len(consumed)
    assert consumed == straight[: len(consumed)] and len(consumed) == 48
    for start in (0, 23):  # each pass over the 23 samples held each of them once
        assert len(set(consumed[start : start + 23])) == 23


def test_resume_mid_stream_is_bitwise(config: MakeConfig, studio: Path) -> None:
    loader = make_loader(config(studio, workers=1))
    for _ in islice(loader, 3):
        pass
    state = loader.state_dict()
    expected = list(islice(make_loader(config(studio)), 5))[3:]
    resumed = make_loader(config(studio))
    resumed.load_state_dict(state)
    for one, other in zip(islice(resumed, 2), expected, strict=True):
        assert_equal(one, other)
    started = make_loader(config(studio), start=state["position"])
    assert keys(islice(started, 2)) == keys(expected)


def test_resuming_on_other_data_is_refused(config: MakeConfig, studio: Path, wild: Path) -> None:
    state = make_loader(config(wild)).state_dict()
    for other in (config(studio), config(wild, seed=1), config(wild, studio)):
        with pytest.raises(DataError, match="cannot go on with other data"):
            make_loader(other).load_state_dict(state)
    make_loader(config(wild, image_size=32, batch_size=9, workers=1)).load_state_dict(state)


def test_other_data_are_told_in_words(config: MakeConfig, studio: Path, wild: Path) -> None:
    loader = make_loader(config(wild))
    state, (name, size) = loader.state_dict(), (loader.names[0], loader.sizes[0])

    def said(other: DataConfig, before: dict[str, Any]) -> str:
        with pytest.raises(DataError) as refused:
            make_loader(other).load_state_dict(before)
        return str(refused.value)

    assert f"its sets were {name}, now they are" in said(config(wild, studio), state)
    assert "weights, seed or shuffle are others" in said(config(wild, seed=1), state)
    fewer = state | {"fingerprint": "", "sets": {name: [size - 1, "0"]}}
    assert f"set {name} had {size - 1} samples, and has {size}. Give the data" in said(config(wild), fewer)
    others = state | {"fingerprint": "", "sets": {name: [size, "0"]}}
    assert f"set {name} had {size} samples, and has as many others" in said(config(wild), others)
    # a checkpoint of an earlier version
    assert "not those of the checkpoint" in said(config(wild, seed=1), {"position": 0, "fingerprint": ""})


def test_a_missing_shard_is_named_at_start(config: MakeConfig, tmp_path: Path, wild: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data set gone.*nowhere\.tar"):
        make_loader(config(DatasetConfig("gone", (str(wild / "a.tar"), str(tmp_path / "nowhere.tar")))))


def test_a_cut_off_shard_is_named_at_start(config: MakeConfig, tmp_path: Path, wild: Path) -> None:
    data = (wild / "a.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[: len(data) // 2 + 200])
    with pytest.raises(ShardError, match=r"cut\.tar"):
        make_loader(config(tmp_path / "cut.tar"))


def test_links_in_a_shard_are_refused(config: MakeConfig, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        link = tarfile.TarInfo("x.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ShardError, match="symbolic link"):
        make_loader(config(tmp_path / "bad.tar"))


def broken_shard(path: Path, samples: list[Sample], broken: dict[int, str]) -> Path:
    """Samples, of which some have a damaged or no jpg, or damaged labels."""
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            members = dict(encode(sample))
            if (how := broken.get(number)) == "jpg":
                members["jpg"] = members["jpg"][:700]
            elif how == "labels":
                members["safetensors"] = b"\x08" + members["safetensors"][1:]
            elif how == "missing":
                del members["jpg"]
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{sample.key}.{extension}")
                info.size = len(data)
                tar.addfile(info, BytesIO(data))
    return path


@pytest.mark.parametrize("how", ["jpg", "labels", "missing"])
def test_a_broken_sample_is_passed_over_and_the_rest_stays(
    config: MakeConfig, make_sample: Any, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [make_sample(seed, side=64, depth=False) for seed in range(20)]
    shards = tmp_path / "shards"
    shards.mkdir()
    broken_shard(shards / "a.tar", samples, {})
    whole = keys(islice(make_loader(config(shards)), 10))
    broken_shard(shards / "a.tar", samples, {7: how})
    loader = make_loader(config(shards))
    with caplog.at_level("WARNING", logger="trainers"):
        found = keys(islice(loader, 10))
    differ = [k for k, (a, b) in enumerate(zip(found, whole, strict=True)) if a != b]
    assert [whole[k] for k in differ] == [samples[7].key] * len(differ) and len(differ) == 2
    assert list(loader.bad) == [samples[7].key] and samples[7].key in caplog.text and "a.tar" in caplog.text
    assert keys(islice(make_loader(config(shards, workers=2)), 10)) == found
    assert keys(make_pass(config(shards))) == [s.key for k, s in enumerate(samples) if k != 7]
    with pytest.raises(DataError, match=rf"0 are allowed.*{samples[7].key}"):
        list(islice(make_loader(config(shards, bad_share=0.0)), 10))


def test_nothing_but_broken_samples_is_an_error(config: MakeConfig, make_sample: Any, tmp_path: Path) -> None:
    samples = [make_sample(seed, side=64, depth=False) for seed in range(3)]
    path = broken_shard(tmp_path / "a.tar", samples, dict.fromkeys(range(3), "jpg"))
    with pytest.raises(DataError, match="unreadable"):
        next(iter(make_loader(config(path))))


def test_a_changed_shard_is_indexed_again(config: MakeConfig, make_sample: Any, write_tar: Any, tmp_path: Path) -> None:
    shards = tmp_path / "a.tar"
    for count in (3, 5):
        write_tar(shards, [make_sample(seed, side=64, depth=False) for seed in range(count)])
        assert make_loader(config(shards)).sizes == (count,)
    index = next((tmp_path / "index").iterdir())
    index.write_bytes(b"not an index")
    assert make_loader(config(shards)).sizes == (5,)


def test_remote_shards_are_read_by_range(config: MakeConfig, wild: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for tar in sorted(wild.glob("*.tar")):
        memory.pipe_file(f"/wild/{tar.name}", tar.read_bytes())
    remote = make_loader(config(DatasetConfig("wild", ("memory://wild",))))
    local = make_loader(config(wild))
    for one, other in zip(islice(remote, 3), islice(local, 3), strict=True):
        assert_equal(one, other)


def test_lists_of_samples_to_leave_out(
    config: MakeConfig, wild: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    every = keys(make_pass(config(wild)))
    uris = [None] * 3 + ["https://a.org/1.jpg"]
    pq.write_table(pa.table({"key": [*every[:3], None], "uri": uris}), tmp_path / "one.parquet")
    pq.write_table(pa.table({"dropped": every[5:7]}), tmp_path / "two.parquet")
    lists = tuple(str(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    left = keys(make_pass(config(DatasetConfig("wild", (str(wild),), exclude=lists))))
    assert left == every[3:5] + every[7:]
    assert "one.parquet: 1 entries name an address, checksum or hash but no sample" in caplog.text
    pq.write_table(pa.table({"name": every}), tmp_path / "odd.parquet")
    with pytest.raises(ExclusionError, match=r"odd\.parquet: has none of the columns key"):
        make_loader(config(DatasetConfig("wild", (str(wild),), exclude=(str(tmp_path / "odd.parquet"),))))
    pq.write_table(pa.table({"uri": ["https://a.org/1.jpg"]}), tmp_path / "far.parquet")
    with pytest.raises(DataError, match=r"far\.parquet: 1 entries name an address"):
        make_loader(config(DatasetConfig("wild", (str(wild),), exclude=(str(tmp_path / "far.parquet"),))))
    pq.write_table(pa.table({"key": every}), tmp_path / "all.parquet")
    with pytest.raises(DataError, match="no sample is left"):
        make_loader(config(DatasetConfig("wild", (str(wild),), exclude=(str(tmp_path / "all.parquet"),))))


def test_smaller_limits_are_within_larger_ones(config: MakeConfig, wild: Path) -> None:
    def chosen(limit: int) -> set[str]:
        return set(keys(make_pass(config(DatasetConfig("wild", (str(wild),), limit=limit)))))

    assert chosen(4) < chosen(9) and len(chosen(4)) == 4 and len(chosen(9)) == 9


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_pass_holds_every_sample_once(config: MakeConfig, studio: Path, wild: Path, world: int) -> None:
    shares = [list(make_pass(config(studio, wild, batch_size=4), rank, world)) for rank in range(world)]
    found = [key for share in shares for key in keys(share)]
    assert len(found) == len(set(found)) == 29
    assert max(len(share) for share in shares) - min(len(share) for share in shares) <= 1


def test_a_weak_set_hides_3d_labels(config: MakeConfig, studio: Path) -> None:
    batch = next(iter(make_loader(config(DatasetConfig("studio", (str(studio),), weak=True)))))
    assert not batch.has_mesh.any() and not batch.has_contact.any() and not batch.has_deformation.any()
    assert batch.face_keypoints_2d[..., 2].all() and (batch.depth_kind == 3).all()
    assert not batch.hand_contact.any() and not batch.head.transl.any()


def test_images_of_a_folder_named_twice_are_there_once(config: MakeConfig, wild: Path) -> None:
    twice = DatasetConfig("wild", (str(wild), str(wild / "*.tar"), str(wild / "a.tar")))
    assert make_loader(config(twice)).sizes == (23,)


def test_pictures_follow_the_global_position_not_the_sample(config: MakeConfig, wild: Path) -> None:
    one = DatasetConfig("one", (str(wild),), limit=1)
    batch = next(iter(make_loader(config(one, batch_size=3))))
    assert len(set(batch.keys)) == 1
    assert not torch.equal(batch.images[0], batch.images[1])
    assert np.unique(batch.face_keypoints_2d[:, 0, 0].numpy()).size == 3


@pytest.mark.parametrize(
    "bad", [{"image_size": 4}, {"batch_size": 0}, {"seed": -1}, {"workers": -1}, {"bad_share": 1.0}, {"prefetch": 0}]
)
def test_impossible_settings_are_refused(config: MakeConfig, wild: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        config(wild, **bad)


def test_impossible_mixes_are_refused(config: MakeConfig, wild: Path) -> None:
    for wrong in ({"weight": 0.0}, {"shards": ()}, {"limit": 0}):
        with pytest.raises(DataError, match="data set x"):
            DatasetConfig(**({"name": "x", "shards": ("y",)} | wrong))
    with pytest.raises(DataError, match="different names"):
        config(wild, wild)
    with pytest.raises(DataError, match="rank 2 of 2"):
        make_loader(config(wild), 2, 2)
