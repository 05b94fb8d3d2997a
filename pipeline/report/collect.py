"""Reads parts and shards into what the report shows: the funnel, reasons with examples, a bounded choice of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from handface.pipeline.contract.config import Count
from handface.pipeline.contract.damage import Damage
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.parts import FinishedPart, none_whole, read_parts
from handface.pipeline.contract.sample import LEFT, Sample, SampleError, decode
from handface.pipeline.contract.shards import ShardError, find_shards, read_shard
from handface.pipeline.engine.funnel import Funnel
from handface.pipeline.report.draw import (
    crop_corners,
    crop_thumbnail,
    depth_thumbnail,
    file_thumbnail,
    nearness,
    points_permille,
)

# pictures that must not be kept: the page names them and does not hold them
_NOT_SHOWN = (Reason.EXCLUDED, Reason.NSFW, Reason.OPTOUT, Reason.ROBOTS)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """How much the page shows."""

    max_samples: int = 600
    """Samples on the contact sheet, spread evenly over all of them; about 20 kB each."""
    examples: int = 6
    """Rejected inputs shown for each reason."""
    thumbnail: Count = 256
    """Side of a sample's picture in pixels."""


@dataclass
class Report:
    """What the page shows. reasons, samples and annotators hold plain JSON values."""

    funnel: Funnel = field(default_factory=Funnel)
    kept: int = 0
    reasons: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    annotators: list[list[dict[str, Any]]] = field(default_factory=list)  # the distinct sets; samples name one by index


def collect(
    uris: Sequence[str],
    config: ReportConfig = ReportConfig(),
    progress: Callable[[int], None] = lambda _: None,
    damage: Damage | None = None,
) -> Report:
    """Read folders of parts, or plain shards (which have no funnel), into a Report.

    uris: folders, tars or globs.  progress: is told of each sample that it is one more.  damage: is told of what is left out.
    Raises FileNotFoundError if there is nothing, or no part is whole; damaged shards and samples are left out with a warning.
    """
    report, damage = Report(), Damage() if damage is None else damage
    parts: list[FinishedPart] = []
    tars: list[tuple[str, int]] = []  # uri, samples
    for uri in uris:
        before = len(damage.files)
        if (found := list(read_parts(uri, damage))) or len(damage.files) > before:
            parts += found
        else:
            tars += [(tar, _count(tar, damage)) for tar in find_shards([uri])]
    if not parts and not tars:
        raise FileNotFoundError(none_whole(" ".join(uris), damage.files))
    for part in parts:
        report.funnel.add(part.manifest)
    report.kept = report.funnel.kept + sum(count for _, count in tars)
    report.reasons = _reasons(report.funnel, parts, config.examples)
    shards = [(part.uri("tar"), part.manifest.kept) for part in parts] + tars
    for sample, shard in _spread(shards, report.kept, config.max_samples, damage):
        try:
            report.samples.append(_card(sample, shard, report.annotators, config.thumbnail))
        # Pillow's answers to broken pictures; SyntaxError on some broken headers
        except (OSError, SyntaxError, ValueError):
            damage.add(shard, f"sample {sample.key}: its picture or depth does not decode")
        progress(1)
    return report


def _count(uri: str, damage: Damage) -> int:
    """Samples of a tar, of a damaged one those before the damage."""
    count = 0
    try:
        for _ in read_shard(uri):
            count += 1
    except ShardError as error:
        damage.add(uri, _problem(uri, error))
    return count


def _problem(uri: str, error: ShardError) -> str:
    return str(error).removeprefix(f"{uri}: ")


def _spread(shards: list[tuple[str, int]], total: int, limit: int, damage: Damage) -> Iterator[tuple[Sample, str]]:
    """At most `limit` of `total` samples at even distances, with their shard."""
    index = 0
    for uri, count in shards:
        chosen = {i - index for i in range(index, index + count) if total <= limit or i * limit % total < limit}
        index += count
        if not chosen:
            continue
        try:
            for position, (key, members) in enumerate(read_shard(uri)):
                if position in chosen:
                    try:
                        yield decode(members), uri
                    except SampleError as error:
                        damage.add(uri, f"sample {key}: {error}")
        except ShardError as error:
            damage.add(uri, _problem(uri, error))


def _reasons(funnel: Funnel, parts: list[FinishedPart], limit: int) -> list[dict[str, Any]]:
    """One entry per stage and reason, with the first few inputs it turned away."""
    rows = [(row.stage, reason, count) for row in funnel.rows() for reason, count in row.reasons.items()]
    examples: dict[tuple[str, str], list[dict[str, Any]]] = {(stage, reason): [] for stage, reason, _ in rows}
    for part in parts:
        if part.manifest.kept == part.manifest.inputs or all(len(found) >= limit for found in examples.values()):
            continue
        table = part.rows().select(["uri", "member", "stage", "reason", "detail", "kept"])
        for row in table.to_pylist():
            found = examples.get((row["stage"], row["reason"]))
            if not row["kept"] and found is not None and len(found) < limit:
                found.append(_example(row))
    return [
        {"stage": stage, "reason": reason, "count": count, "examples": examples[stage, reason]}
        for stage, reason, count in rows
    ]


def _example(row: dict[str, Any]) -> dict[str, Any]:
    name = row["uri"] if row["member"] is None else f"{row['uri']}#{row['member']}"
    path = None if row["reason"] in _NOT_SHOWN else _local(row["uri"], row["member"])
    image = file_thumbnail(path, 96) if path else None
    return {"name": name, "detail": row["detail"] or "", "image": image}


def _local(uri: str, member: str | None) -> Path | None:
    """The picture file itself, where it is one on this machine."""
    path = Path(uri.removeprefix("file://"))
    return path if member is None and "://" not in str(path) and path.is_file() else None


def _card(sample: Sample, shard: str, annotators: list[list[dict[str, Any]]], side: int) -> dict[str, Any]:
    """One sample as the page wants it; points in thousandths of the crop."""
    meta, labels = sample.meta, sample.labels
    used = [asdict(record) for record in meta.annotators]
    if used not in annotators:
        annotators.append(used)
    scores = asdict(meta.scores) if meta.scores else {}
    scores |= {f"agreement {pair}": value for pair, value in scores.pop("keypoint_agreement", {}).items()}
    points, sides = labels.hand_keypoints_2d, labels.hand_side
    hands = [] if points is None or sides is None else zip(points, sides, strict=True)
    depth = next(iter(labels.keypoint_depth.items()), None)
    original = _local(meta.source.uri, meta.source.member)
    face = labels.face_keypoints_2d
    return {
        "key": sample.key,
        "part": shard.rpartition("/")[2],
        "image": crop_thumbnail(sample.image, side),
        "depth": depth_thumbnail(sample.depth_png, side) if sample.depth_png else None,
        "face": None if face is None else points_permille(face, meta.crop.size),
        "hands": [
            {"side": "left" if side == LEFT else "right", "points": points_permille(hand, meta.crop.size)}
            for hand, side in hands
        ],
        "nearness": None if depth is None else {"source": depth[0], "values": nearness(depth[1])},
        "scores": scores,
        "source": asdict(meta.source),
        "crop": {
            "size": meta.crop.size,
            "original_width": meta.crop.original_width,
            "original_height": meta.crop.original_height,
            "corners": crop_corners(meta.crop),
        },
        "annotators": annotators.index(used),
        "original": file_thumbnail(original, side) if original else None,
    }
