from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from handface.pipeline.contract.exclusion import Exclusion, ExclusionError, digest
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.phash import distance, hash_hex, perceptual_hash
from handface.pipeline.contract.picture import decode_image
from handface.pipeline.engine.record import Record
from handface.pipeline.export.dedupe import Hashed, find_duplicates
from handface.pipeline.stages.dedupe import DedupeConfig, DedupeStage
from tests.pipeline.images import encode, photo


def record(name: str, image: np.ndarray, sha256: str | None = None) -> Record:
    return Record(SourceItem(name), image=image, sha256=sha256 or name)


def test_resized_and_recompressed_copies_are_near_and_others_far():
    image = photo(320, 240)
    smaller = np.asarray(Image.fromarray(image).resize((200, 150), Image.Resampling.LANCZOS))
    worse = decode_image(encode(image, quality=30))
    original = perceptual_hash(image)
    assert max(distance(original, perceptual_hash(copy)) for copy in (smaller, worse)) <= 4
    assert min(distance(original, perceptual_hash(photo(seed=n))) for n in range(1, 40)) > 10


def test_flat_pictures_match_nothing():
    flat = np.full((100, 100, 3), 30, np.uint8)
    assert perceptual_hash(flat) == 0 and distance(0, 0) == 64


def test_the_first_in_the_unit_stays_and_units_forget():
    image = photo(320, 240)
    stage = DedupeStage()
    stage.setup()
    batch = [record("a", image), record("b", photo(seed=5)), record("c", decode_image(encode(image, quality=40)))]
    batch.append(record("d", photo(seed=6), sha256="b"))
    stage(batch)
    assert [r.reason for r in batch] == [None, None, Reason.DUPLICATE, Reason.DUPLICATE]
    assert batch[2].detail.endswith("from a") and "same bytes as b" in batch[3].detail
    stage.start_unit()
    again = record("e", image)
    stage([again])
    assert again.alive and again.phash == batch[0].phash


def test_copies_can_be_kept():
    stage = DedupeStage(DedupeConfig(max_distance=-1))
    stage.setup()
    batch = [record("a", photo()), record("b", photo())]
    stage(batch)
    assert all(r.alive for r in batch)


def hashed(key: str, value: int) -> Hashed:
    return Hashed(key, hash_hex(value), f"sha of {key}")


HASHES = st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=8)


@settings(deadline=None)  # the first call imports scipy
@given(base=HASHES, flips=st.lists(st.tuples(st.integers(0, 7), st.sets(st.integers(0, 63), max_size=9)), max_size=12))
def test_the_clusters_are_those_of_comparing_every_pair(base, flips):
    values = list(base)
    for source, bits in flips:
        values.append(values[source % len(base)] ^ sum(1 << bit for bit in bits))
    samples = [hashed(f"{i:016x}", value) for i, value in enumerate(values)]
    parent = list(range(len(values)))
    for _ in values:  # spread the smallest index until nothing changes
        for a in range(len(values)):
            for b in range(len(values)):
                if distance(values[a], values[b]) <= 6 or a == b:
                    parent[a] = min(parent[a], parent[b])
    expected = {(f"{i:016x}", f"{root:016x}") for i, root in enumerate(parent) if root != i}
    assert {(d.dropped, d.kept) for d in find_duplicates(samples)} == expected


@settings(deadline=None)
@given(HASHES, st.randoms())
def test_the_answer_does_not_depend_on_the_order(values, random):
    samples = [hashed(f"{v:016x}", v) for v in values]
    shuffled = samples[:]
    random.shuffle(shuffled)
    assert find_duplicates(samples) == find_duplicates(shuffled)


def test_a_large_family_is_one_and_flat_pictures_are_none():
    """1,500 copies that differ in up to 2 bits of 40, so that neighbours agree in most bands; and 50 hashes of 0."""
    pairs = [(one, other) for one in range(40) for other in range(one, 40)]
    values = [(0xABCDEF << 40) ^ (1 << one) ^ (1 << other) for one, other in pairs] + [0] * 50
    samples = [hashed(f"{i:016x}", value) for i, value in enumerate(values)]
    found = find_duplicates(samples, 4)
    assert {d.kept for d in found} == {f"{0:016x}"} and len(found) == len(pairs) - 1


def test_equal_originals_are_copies_whatever_their_hash():
    samples = [Hashed("b" * 16, hash_hex(1), "same"), Hashed("a" * 16, hash_hex(2**40 - 1), "same")]
    (found,) = find_duplicates(samples)
    assert (found.dropped, found.kept) == ("b" * 16, "a" * 16)


def test_a_radius_too_large_for_the_bands_is_refused():
    with pytest.raises(ValueError, match="0 to 11"):
        find_duplicates([], 12)


@pytest.mark.parametrize("column", ["uri", "sha256", "phash"])
def test_what_a_list_names_stays_out(tmp_path: Path, column: str) -> None:
    image = photo(320, 240)
    named = {"uri": "a", "sha256": "sum of a", "phash": hash_hex(perceptual_hash(image))}
    listed = tmp_path / "tombstones.parquet"
    pq.write_table(pa.table({column: [named[column], None]}), listed)
    stage = DedupeStage(DedupeConfig(exclude=(str(listed),)))
    stage.setup()
    batch = [record("a", image, "sum of a"), record("b", photo(seed=5))]
    stage(batch)
    assert [r.reason for r in batch] == [Reason.EXCLUDED, None]
    assert str(listed) in batch[0].detail


@pytest.mark.parametrize(("column", "value"), [("uri", "https://a.org/1.jpg"), ("sha256", "sum from before")])
def test_a_crawled_photo_is_known_by_its_address_and_by_its_original(tmp_path: Path, column: str, value: str) -> None:
    """What is read is the crawl's tar, whose member has other bytes than its owner's file."""
    listed = tmp_path / "tombstones.parquet"
    pq.write_table(pa.table({column: [value]}), listed)
    stage = DedupeStage(DedupeConfig(exclude=(str(listed),)))
    stage.setup()
    crawled = record("crawl.tar", photo(seed=5), "sum of the member")
    columns = (("original_sha256", "sum from before"), ("url", "https://a.org/1.jpg"))
    crawled.item = SourceItem("crawl.tar", "1.jpg", 512, 100, columns)
    stage([crawled])
    assert crawled.reason is Reason.EXCLUDED


def test_bad_lists_are_named(tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.parquet", tmp_path / "other.parquet"
    empty.touch()
    pq.write_table(pa.table({"name": ["x"]}), other)
    with pytest.raises(ExclusionError, match=r"empty\.parquet: not a readable parquet"):
        Exclusion.read(str(empty))
    with pytest.raises(ExclusionError, match=r"other\.parquet: has none of the columns key"):
        Exclusion.read(str(other))
    with pytest.raises(ExclusionError, match=r"none\.parquet: cannot be read"):
        digest([str(tmp_path / "none.parquet")])
    before = digest([str(other)])
    pq.write_table(pa.table({"key": ["x"]}), other)
    assert digest([str(other)]) != before and digest([]) == ""
