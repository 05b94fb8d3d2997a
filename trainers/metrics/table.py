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


def _seen(prefix: str, against: str) -> list[Metric]:
    """What can be measured on a photo. against: whose points and depth, if they are not the truth."""
    error, order = f"{prefix}reprojection", f"{prefix}order"
    return [
        *(
            Metric(
                f"{error}{part}",
                f"2D error{part.replace('_', ' ')}{against}",
                "% face",
                "lower",
                "picture",
                _ratio(f"{error}{part}", f"{error}{part}_known", 100),
            )
            for part in ("", "_face", "_hand")
        ),
        *(
            Metric(
                f"{prefix}depth_order{part}",
                f"depth order{title}{against}",
                "%",
                "higher",
                "picture",
                _ratio(f"{order}{part}_right", f"{order}{part}_pairs", 100),
            )
            for part, title in (("", ""), ("_across", " face-hand"))
        ),
    ]


def _agreement(sums: Sums) -> Column:
    """Per cent, mean of the shares among touching and among other pictures: to call all of them touching gives 50. NaN if one kind is missing."""
    shares = [_divide(_get(sums, f"agrees_{kind}"), _get(sums, f"judged_{kind}")) for kind in ("touching", "apart")]
    return 50 * (shares[0] + shares[1])


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
    *_seen("", ""),
    *_seen("detector_", " vs detector"),
    Metric("agreement", "touch, as the filter", "%", "higher", "picture", _agreement),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def summarise(
    records: Records, config: BootstrapConfig = BootstrapConfig(), clusters: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """Every metric that something was measured for, with its interval. Deterministic.

    Without clusters, percentiles of a bootstrap over rows. Of clusters there are often a handful (Decaf's test set has three subjects),
    where such percentiles are far too narrow: there the metric is computed without each of them in turn (jackknife), and the interval
    is Student's t with one degree of freedom less than there are clusters.

    Args:
        records: N rows.
        config: Replicates, level and seed.
        clusters: N names; rows of one name belong together (subjects). With fewer than 2 the bounds are NaN.
    """
    if not len(records):
        return {}
    spread = _Spread.of(records, config, clusters)
    return {
        metric.name: spread.estimate(metric, spread.values(metric, records.columns))
        for metric in METRICS
        if np.isfinite(metric.value(records.sums())[0])
    }


def differences(
    first: Records, second: Records, config: BootstrapConfig = BootstrapConfig(), clusters: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """First minus second of every metric that both have, on the same samples: rows and clusters are drawn for both alike.

    Intervals as in `summarise`. Raises ValueError if the samples are not the same.
    """
    if first.keys != second.keys:
        raise ValueError("two systems are compared on the samples of both, but they answered different ones")
    if not len(first):
        return {}
    joined = {f"a:{name}": values for name, values in first.columns.items()}
    joined |= {f"b:{name}": values for name, values in second.columns.items()}
    spread = _Spread.of(Records(first.keys, joined), config, clusters)
    found = {}
    for metric in METRICS:
        mine, theirs = (
            spread.values(metric, records.columns, prefix) for records, prefix in ((first, "a:"), (second, "b:"))
        )
        if np.isfinite(mine[0]) and np.isfinite(theirs[0]):
            found[metric.name] = spread.estimate(metric, mine - theirs, bounded=False)
    return found


@dataclass(frozen=True)
class _Spread:
    """Sums of the whole and of what shows its spread: replicates of a bootstrap, or the whole without each cluster.

    sums: column -> (1 + R,), the whole first.  clusters: their number, 0 for a bootstrap.
    """

    sums: dict[str, Column]
    clusters: int
    level: float

    @classmethod
    def of(cls, records: Records, config: BootstrapConfig, clusters: Sequence[str] | None) -> _Spread:
        whole = records.sums()
        if clusters is None:
            parts = [whole, *_replicates(records, config)]
            return cls({name: np.concatenate([part[name] for part in parts]) for name in whole}, 0, config.level)
        group = ids(clusters)
        count = int(group.max()) + 1
        sums = {}
        for name, values in records.columns.items():
            without = whole[name] - np.bincount(group, values, count)
            sums[name] = np.concatenate([whole[name], without if count > 1 and config.replicates else []])
        return cls(sums, count, config.level)

    def values(self, metric: Metric, names: Mapping[str, object], prefix: str = "") -> Column:
        """(1 + R,) of a metric; of the columns with a prefix, if there is one."""
        return metric.value({name: self.sums[prefix + name] for name in names})

    def estimate(self, metric: Metric, values: Column, bounded: bool = True) -> Estimate:
        """The whole's value with its interval. bounded: shares stay between 0 and 100 %."""
        value, spread = float(values[0]), values[1:][np.isfinite(values[1:])]
        low, high = np.nan, np.nan
        if len(spread) and not self.clusters:
            tail = 50 * (1 - self.level)
            low, high = np.percentile(spread, [tail, 100 - tail])
        elif len(spread) > 1:
            from scipy.stats import t

            count = len(spread)
            error = np.sqrt((count - 1) / count * np.square(spread - spread.mean()).sum())
            half = float(t.ppf(0.5 + self.level / 2, count - 1) * error)
            low, high = value - half, value + half
            if bounded:
                top = {"%": 100.0, "": 1.0}.get(metric.unit, np.inf)
                low, high = max(low, 0.0), min(high, top)
        return Estimate(value, float(low), float(high))


def _replicates(records: Records, config: BootstrapConfig) -> list[dict[str, Column]]:
    """Sums of every replicate, rows drawn with replacement, in chunks; [] if there is nothing to draw from."""
    count = len(records)
    if count < 2:
        return []
    rng = np.random.default_rng(config.seed)
    parts = []
    for start in range(0, config.replicates, _CHUNK):
        size = min(_CHUNK, config.replicates - start)
        weights = rng.multinomial(count, np.full(count, 1 / count), size).astype(np.float64)
        parts.append(records.sums(weights))
    return parts
