import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from handface.pipeline.contract.exclusion import Exclusion, ExclusionError, digest
from handface.pipeline.contract.images.phash import distance, hash_hex, perceptual_hash
from handface.pipeline.contract.images.picture import decode_image
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.names.url_names import picture_names
from handface.pipeline.engine.record import Record
from handface.pipeline.export.dedupe import Hashed, connected_components, find_duplicates
from handface.pipeline.stages.filters.dedupe import DedupeConfig, DedupeStage
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


def test_parts_without_hashes_are_compared_by_checksum():
    samples = [Hashed("c" * 16, None, "same"), Hashed("a" * 16, hash_hex(1), "same"), Hashed("b" * 16, "", None)]
    samples.append(Hashed("d" * 16, None, None))
    (found,) = find_duplicates(samples)
    assert (found.dropped, found.kept, found.distance) == ("c" * 16, "a" * 16, None)


def test_time_grows_with_the_number_of_copies_and_not_with_their_pairs():
    """20,000 hashes within 8 bits of one, a family; CPU time against 5,000 of them, four times as many."""
    rng = np.random.default_rng(0)

    def seconds(count: int) -> float:
        flips = np.zeros(count, np.uint64)
        for _ in range(8):
            bit = np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)
            flips |= np.where(rng.random(count) < 0.5, bit, np.uint64(0))
        hashes = np.uint64(0x123456789ABCDEF1) ^ flips
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            connected_components(hashes, [], 6)
            best = min(best, time.process_time() - start)
        return best

    seconds(1000)  # imports
    assert seconds(20_000) < 2 * 4 * seconds(5_000) + 0.2


def test_large_buckets_give_what_comparing_every_pair_gives():
    """400 hashes in a few buckets: families, loners and bridges between families."""
    rng = np.random.default_rng(4)
    centres = [0x1234567812345678 ^ (0x7F << (8 * shift)) for shift in range(4)]
    values = {
        int(c) ^ sum(1 << int(b) for b in rng.choice(64, rng.integers(0, 9), replace=False))
        for c in centres
        for _ in range(100)
    }
    hashes = np.array(sorted(values), np.uint64)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= 6
    reach = near
    while not np.array_equal(reach, grown := (reach.astype(np.float32) @ near.astype(np.float32)) > 0):
        reach = grown
    assert np.array_equal(connected_components(hashes, [], 6), reach.argmax(1))
    assert len(set(reach.argmax(1).tolist())) > 4


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


LISTED = [
    ("key", "ABCDEF0123456789"),
    ("sha256", f"{0xABC:064X}"),
    ("sha256", (0xABC).to_bytes(32, "big")),
    ("uri", "HTTPS://A.org:443/x/../1.jpg?#top"),
    ("url", "http://a.org/1.jpg"),
    ("url", "http://old.org/moved.jpg"),
    ("uri", "https://cdn.org/final.jpg"),
    ("phash", np.uint64(0xF0F0F0F0F0F0F0F1)),
    ("phash", (0xF0F0F0F0F0F0F0F0).to_bytes(8, "big")),
    ("phash", "F0F0F0F0F0F0F0F3"),
]


@pytest.mark.parametrize(("column", "value"), LISTED)
def test_a_list_may_spell_names_as_other_programs_do(tmp_path: Path, column: str, value: object) -> None:
    listed = tmp_path / "list.parquet"
    pq.write_table(pa.table({column: [value, None], "detail": ["", ""]}), listed)
    one = Exclusion.read(str(listed))
    also = picture_names(
        "https://a.org/1.jpg", {"moved_from": "https://old.org/moved.jpg"}, {"answered_by": "https://cdn.org/final.jpg"}
    )
    assert len(one) == 1
    assert one.names("https://a.org/1.jpg", {f"{0xABC:064x}"}, 0xF0F0F0F0F0F0F0F0, "abcdef0123456789", also)
    assert not one.names("https://a.org/2.jpg", {f"{0xABD:064x}"}, 0x0F0F0F0F0F0F0F0F, "abcdef0123456780")


@pytest.mark.parametrize(("column", "value"), [("phash", "xyz"), ("phash", 1.5), ("sha256", 7), ("uri", 3)])
def test_what_a_column_cannot_hold_is_named(tmp_path: Path, column: str, value: object) -> None:
    listed = tmp_path / "list.parquet"
    pq.write_table(pa.table({column: [value]}), listed)
    with pytest.raises(ExclusionError, match=rf"list\.parquet: column {column}: "):
        Exclusion.read(str(listed))


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
