"""The metrics by name: formulas over pooled sums, with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from handface.trainers.evaluation.config import BootstrapConfig
from handface.trainers.metrics.records import Column, Records, ids

Sums = Mapping[str, Column]
_CHUNK = 128  # bootstrap replicates weighed at once


@dataclass(frozen=True)
class Metric:
    """One number of the table. value: pooled sums -> (R,), NaN where nothing was measured.  better: which way is good."""

    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"]
    group: str
    value: Callable[[Sums], Column]


@dataclass(frozen=True)
class Estimate:
    """A metric's value with the bounds of its confidence interval; all NaN where nothing was measured. samples: that were."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return bool(np.isfinite(self.value))


def _get(sums: Sums, name: str) -> Column:
    if name in sums:
        return sums[name]
    return np.zeros(len(next(iter(sums.values()))) if sums else 1)


def _divide(top: Column, bottom: Column) -> Column:
    safe = np.where(bottom > 0, bottom, 1)
    return np.where(bottom > 0, top / safe, np.nan)


def _ratio(top: str, bottom: str, scale: float) -> Callable[[Sums], Column]:
    return lambda sums: scale * _divide(_get(sums, top), _get(sums, bottom))


def _confusion(parts: Sequence[str], kind: str) -> Callable[[Sums], Column]:
    def value(sums: Sums) -> Column:
        tp, fp, fn, tn = (sum(_get(sums, f"{part}_{cell}") for part in parts) for cell in ("tp", "fp", "fn", "tn"))
        top, bottom = {
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "F1": (2 * tp, 2 * tp + fp + fn),
            "accuracy": (tp + tn, tp + fp + fn + tn),
        }[kind]
        return _divide(np.asarray(top), np.asarray(bottom))

    return value


def _plausible(kind: str, suffix: str) -> Callable[[Sums], Column]:
    """Non.Col, Touch and their harmonic mean F, in per cent."""

    def value(sums: Sums) -> Column:
        free = 100 * _divide(_get(sums, f"free{suffix}"), _get(sums, "surfaces"))
        touch = 100 * _divide(_get(sums, f"both_touch{suffix}"), _get(sums, f"true_touches{suffix}"))
        total = free + touch
        return {"free": free, "touch": touch, "f": np.where(total == 0, 0.0, _divide(2 * free * touch, total))}[kind]

    return value


def _plausibility(suffix: str, group: str) -> list[Metric]:
    tail = suffix.replace("_", " ")
    return [
        Metric(
            f"col_dist{suffix}", f"Col.Dist{tail}", "mm", "lower", group, _ratio(f"collision{suffix}", "surfaces", 1e3)
        ),
        Metric(f"non_col{suffix}", f"Non.Col{tail}", "%", "higher", group, _plausible("free", suffix)),
        Metric(f"touch{suffix}", f"Touch{tail}", "%", "higher", group, _plausible("touch", suffix)),
        Metric(f"f_score{suffix}", f"F{tail}", "%", "higher", group, _plausible("f", suffix)),
    ]


def _contact(parts: Sequence[str], name: str) -> list[Metric]:
    return [
        Metric(f"{name}_{kind.lower()}", f"{name} {kind}", "", "higher", "contact", _confusion(parts, kind))
        for kind in ("precision", "recall", "F1", "accuracy")
    ]


def _errors(prefix: str, title: str, group: str) -> list[Metric]:
    names = (("pve", "PVE*"), ("mpjpe", "MPJPE"), ("pa_mpjpe", "PA-MPJPE"))
    return [
        Metric(f"{prefix}{n}", f"{t}{title}", "mm", "lower", group, _ratio(f"{prefix}{n}", f"{prefix}frames", 1e3))
        for n, t in names
    ]


METRICS: tuple[Metric, ...] = (
    *_errors("", "", "paper"),
    *_plausibility("", "paper"),
    Metric("pve_same", "PVE* same origin", "mm", "lower", "corrected", _ratio("pve_same", "frames", 1e3)),
    Metric("mpjpe_same", "MPJPE same origin", "mm", "lower", "corrected", _ratio("mpjpe_same", "frames", 1e3)),
    *_plausibility("_closed", "corrected"),
    Metric("pve_head", "PVE* head", "mm", "lower", "parts", _ratio("pve_head", "frames", 1e3)),
    Metric("pve_hand", "PVE* hand", "mm", "lower", "parts", _ratio("pve_hand", "frames", 1e3)),
    *_errors("direct_", " direct", "parts"),
    Metric("leaks", "leaked vertices", "per frame", "lower", "parts", _ratio("leaks", "surfaces", 1)),
    Metric("deformation", "deformation", "mm", "lower", "deformation", _ratio("deformation", "deformed", 1e3)),
    Metric(
        "deformation_large",
        "deformation where > 5 mm",
        "mm",
        "lower",
        "deformation",
        _ratio("deformation_large", "large", 1e3),
    ),
    Metric(
        "deformation_large_l1",
        "the same, |x|+|y|+|z|",
        "mm",
        "lower",
        "deformation",
        _ratio("deformation_large_l1", "large", 1e3),
    ),
    *_contact(["face"], "face"),
    *_contact(["hand"], "hand"),
    *_contact(["face", "hand"], "both"),
    *_contact(["presence"], "presence"),
    Metric("reprojection", "2D error", "% face", "lower", "picture", _ratio("reprojection", "reprojection_known", 100)),
    Metric(
        "reprojection_face",
        "2D error face",
        "% face",
        "lower",
        "picture",
        _ratio("reprojection_face", "reprojection_face_known", 100),
    ),
    Metric(
        "reprojection_hand",
        "2D error hand",
        "% face",
        "lower",
        "picture",
        _ratio("reprojection_hand", "reprojection_hand_known", 100),
    ),
    Metric("depth_order", "depth order", "%", "higher", "picture", _ratio("order_right", "order_pairs", 100)),
    Metric(
        "depth_order_across",
        "depth order face-hand",
        "%",
        "higher",
        "picture",
        _ratio("order_across_right", "order_across_pairs", 100),
    ),
    Metric("agreement", "contact agreement", "%", "higher", "picture", _ratio("agrees", "judged", 100)),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def summarise(
    records: Records, config: BootstrapConfig = BootstrapConfig(), clusters: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """Every metric that something was measured for. clusters: N names; rows of one name are drawn together (subjects), None: each alone.

    Deterministic: the same rows and seed give the same bounds. With fewer than 2 clusters the bounds are NaN.
    """
    if not len(records):
        return {}
    pooled = records.sums()
    values = {metric.name: float(metric.value(pooled)[0]) for metric in METRICS}
    known = [metric for metric in METRICS if np.isfinite(values[metric.name])]
    group = np.arange(len(records)) if clusters is None else ids(clusters)
    drawn = _replicates(records, group, config)
    tail = 50 * (1 - config.level)
    result = {}
    for metric in known:
        low, high = np.nan, np.nan
        if drawn:
            replicates = metric.value(drawn)
            replicates = replicates[np.isfinite(replicates)]
            if len(replicates):
                low, high = np.percentile(replicates, [tail, 100 - tail])
        result[metric.name] = Estimate(values[metric.name], float(low), float(high))
    return result


def _replicates(records: Records, group: np.ndarray, config: BootstrapConfig) -> dict[str, Column]:
    """Sums of every replicate, column -> (replicates,); {} if there is nothing to draw from."""
    count = int(group.max()) + 1
    if count < 2 or config.replicates == 0:
        return {}
    totals = np.zeros((count, len(records.columns)))
    np.add.at(totals, group, np.stack(list(records.columns.values()), 1))  # a cluster's rows always come together
    clusters = Records(tuple(map(str, range(count))), dict(zip(records.columns, totals.T, strict=True)))
    rng = np.random.default_rng(config.seed)
    parts = []
    for start in range(0, config.replicates, _CHUNK):
        size = min(_CHUNK, config.replicates - start)
        weights = rng.multinomial(count, np.full(count, 1 / count), size).astype(np.float64)
        parts.append(clusters.sums(weights))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
