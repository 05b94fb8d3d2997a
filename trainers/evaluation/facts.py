"""What a sample's provenance says about it: subject, camera, side of the hand, how sure the filter was of contact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from handface.pipeline.contract.sample import LEFT, SampleError, SampleMeta, decode_labels, decode_meta
from handface.pipeline.contract.shards import find_shards, read_shard

CONTACT_SCORE = 0.5
"""The hand-face filter's score from which a picture counts as one of contact."""


@dataclass(frozen=True)
class Facts:
    """One sample. subject: who is in it, as far as anyone knows.  contact: the filter's score, None without one.

    columns: further columns of its source, such as camera, region, grip.
    """

    dataset: str
    subject: str
    side: str
    contact: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """`dataset`, `subject`, `side` or a column's value; "" where it has none."""
        if name in ("dataset", "subject", "side"):
            return str(getattr(self, name))
        return self.columns.get(name, "")


def sample_name(dataset: str, key: str) -> str:
    """What a sample is called in results: one that is in two data sets is two."""
    return f"{dataset}/{key}"


def read_facts(shards: Mapping[str, Iterable[str]], progress: Callable[[], None] = lambda: None) -> dict[str, Facts]:
    """Facts of every sample, by `sample_name`. shards: dataset name -> its shards, folders or globs. Samples that do not parse have none.

    Raises FileNotFoundError or ShardError.
    """
    found: dict[str, Facts] = {}
    for dataset, arguments in shards.items():
        for uri in find_shards(arguments):
            for key, members in read_shard(uri):
                try:
                    meta, labels = decode_meta(members["json"]), decode_labels(members["safetensors"])
                except (SampleError, KeyError):
                    continue  # the loader passes it over, too, and counts it
                side = "" if labels.hand_side is None or not len(labels.hand_side) else _side(int(labels.hand_side[0]))
                score = None if meta.scores is None else meta.scores.contact
                found[sample_name(dataset, key)] = Facts(dataset, _subject(meta), side, score, meta.source.columns)
            progress()
    return found


def _side(value: int) -> str:
    return "left" if value == LEFT else "right"


def _subject(meta: SampleMeta) -> str:
    """The studio's subject, or the identity that a list names; else each original picture is its own."""
    columns = meta.source.columns
    return columns.get("subject") or columns.get("identity") or meta.source.sha256
