import pyarrow.parquet as pq

from handface.jobs.dedupe import Config, run
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.sample import Crop, Labels, Sample, SampleMeta, Source, sample_key
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.parts import write_part
from handface.pipeline.engine.record import Record
from tests.pipeline.images import encode, photo


def kept(name: str, seed: int, phash: str) -> Record:
    image = encode(photo(128, 128, seed))
    record = Record(SourceItem(name), sha256=f"{seed:064x}", phash=phash, original_size=(128, 128))
    crop = Crop(((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)), 128, 128, 128)
    source = Source(name, record.sha256, phash)
    record.sample = Sample(image, Labels(), SampleMeta(sample_key(image), source, crop, None, ()))
    return record


def test_copies_across_units_and_folders_are_written_down(tmp_path, capsys):
    hashes = {"a": "00ff00ff00ff00ff", "b": "00ff00ff00ff00fe", "c": "123456789abcdef0"}
    records = [kept(name, seed, phash) for seed, (name, phash) in enumerate(hashes.items())]
    for record in records:
        folder = Folder(str(tmp_path / record.item.uri))
        write_part(folder, f"unit{record.item.uri}", [record], ("pack",), "f" * 64)
    output = tmp_path / "duplicates.parquet"
    assert run(Config(tuple(str(tmp_path / name) for name in "cba"), str(output))) == 0
    (row,) = pq.read_table(output).to_pylist()
    twins = sorted(record.sample.key for record in records[:2])
    assert row == {"dropped": twins[1], "kept": twins[0], "distance": 1}
    assert "3 samples, 1 copies of 1" in capsys.readouterr().out
