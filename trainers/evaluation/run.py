"""The entry of evaluation: systems x samples -> rows -> tables with confidence intervals.

collect: every system answers every batch, one row of numbers per sample (trainers/metrics)
tabulate: rows of a system, whole and by subset -> estimates
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from handface.trainers.batch import Batch
from handface.trainers.evaluation.config import BootstrapConfig, TableConfig
from handface.trainers.evaluation.facts import CONTACT_SCORE, Facts, name_samples
from handface.trainers.evaluation.systems import System, Truth
from handface.trainers.metrics import Estimate, Records, Surface, differences, gather, hand_depths, measure, summarise

WHOLE = "all"
FEW_SUBJECTS = 10
"""Below so many, an interval over subjects is worth a warning."""
TOUCH = "touch"  # a subset made of labels, not of facts


@dataclass(frozen=True)
class Row:
    """One system on one subset. frames: estimates with intervals over samples; subjects: the same values, intervals over subjects."""

    system: str
    split: str
    subset: str
    samples: int
    subject_count: int
    frames: Mapping[str, Estimate]
    subjects: Mapping[str, Estimate]

    @property
    def repeated(self) -> bool:
        """Whether subjects come more than once, so that samples are not independent and intervals belong over subjects."""
        return self.subject_count < self.samples

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """With the intervals that are honest for this subset."""
        return self.subjects if self.repeated else self.frames


@dataclass(frozen=True)
class Difference:
    """What a system has more than another, on the same samples: estimates with intervals over subjects where those repeat."""

    system: str
    other: str
    samples: int
    subject_count: int
    estimates: Mapping[str, Estimate]


def collect(
    systems: Mapping[str, System],
    batches: Iterable[Batch],
    truth: Truth,
    surface: Surface | None,
    facts: Mapping[str, Facts] | None = None,
    progress: Callable[[int], None] = lambda samples: None,
    datasets: Sequence[str] | None = None,
) -> dict[str, Records]:
    """Every system's rows over all batches, of all ranks. truth: labels as meshes, on the systems' device; of samples without
    3D labels, anything.  surface: None leaves plausibility out.  progress: gets the samples of each batch.
    datasets: names of the data sets that `origins` count; rows are then called by `sample_name`, so that one picture in two sets is two.
    """
    rows: dict[str, list[Records]] = {name: [] for name in systems}
    for batch in batches:
        expected = truth(batch)
        named = batch.keys if datasets is None else name_samples(batch, datasets)
        reference = None if surface is None else hand_depths(expected, surface, batch.has_mesh)
        for name, system in systems.items():
            answer = system(batch, expected)
            measured = measure(batch, answer.meshes, expected, surface, answer.direct, reference)
            measured = replace(measured, keys=named)
            if facts is not None:
                measured = _with_agreement(measured, answer.meshes.presence.double().cpu().numpy(), batch, facts)
                measured = _by_who_placed(measured, facts)
            if answer.says is not None:
                columns = {column: rows for column, rows in measured.columns.items() if answer.says(column)}
                measured = Records(measured.keys, columns)
            rows[name].append(measured if answer.known is None else _absent(measured, ~answer.known.cpu().numpy()))
        progress(len(batch))
    return {name: gather(Records.merge(parts)) for name, parts in rows.items()}


def _absent(records: Records, rows: np.ndarray) -> Records:
    """The records with nothing measured in some rows (N,)."""
    return Records(records.keys, {name: np.where(rows, 0.0, values) for name, values in records.columns.items()})


def _with_agreement(records: Records, presence: np.ndarray, batch: Batch, facts: Mapping[str, Facts]) -> Records:
    """Columns `agrees` and `judged`, each for pictures that the filter takes for touching and for others: does predicted contact agree
    with the filter, where no label tells?
    """
    scores = [None if (fact := facts.get(key)) is None else fact.contact for key in records.keys]
    judged = np.array([score is not None for score in scores]) & ~batch.has_contact.cpu().numpy()
    said = np.array([score is not None and score >= CONTACT_SCORE for score in scores])
    agrees = (presence > 0.5) == said
    columns: dict[str, np.ndarray] = {}
    for kind, mine in (("touching", judged & said), ("apart", judged & ~said)):
        columns |= {f"judged_{kind}": mine.astype(float), f"agrees_{kind}": (mine & agrees).astype(float)}
    return Records(records.keys, {**records.columns, **columns})


def _by_who_placed(records: Records, facts: Mapping[str, Facts]) -> Records:
    """What is measured against a detector's points and depth in columns of its own: that is no error against the truth."""
    detected = np.array([(fact := facts.get(key)) is not None and fact.detected for key in records.keys], bool)
    seen = {name: rows for name, rows in records.columns.items() if name.startswith(("reprojection", "order_"))}
    theirs = {f"detector_{name}": np.where(detected, rows, 0.0) for name, rows in seen.items()}
    true = {name: np.where(detected, 0.0, rows) for name, rows in seen.items()}
    return Records(records.keys, {**records.columns, **true, **theirs})


def tabulate(records: Mapping[str, Records], facts: Mapping[str, Facts], config: TableConfig) -> list[Row]:
    """Rows of the result: per system the whole set, then each subset of each split. Deterministic.

    A system's samples are those that it answered. Without any, as the labels where there are none in 3D, it has no row.
    """
    result = []
    for system, answers in records.items():
        rows = answers.where(_answered(answers))
        known = [facts.get(key) for key in rows.keys]
        subjects = np.array([key if fact is None else fact.subject for key, fact in zip(rows.keys, known, strict=True)])
        result.append(_row(system, WHOLE, WHOLE, rows, subjects, config.bootstrap))
        for split in config.by:
            values = _values(split, rows, known)
            subsets = sorted(set(values.tolist()) - {""})
            if not 1 < len(subsets) <= config.most or 2 * len(subsets) > len(rows):  # nearly each sample its own
                continue
            for subset in subsets:
                mask = values == subset
                result.append(_row(system, split, subset, rows.where(mask), subjects[mask], config.bootstrap))
    return [row for row in result if row.frames]


def pair(records: Mapping[str, Records], facts: Mapping[str, Facts], bootstrap: BootstrapConfig) -> list[Difference]:
    """The first system against each of the others, on the samples that both answered."""
    result: list[Difference] = []
    if not records:
        return result
    first, *others = records
    for other in others:
        both = _answered(records[first]) & _answered(records[other])
        if not both.any():
            continue
        mine, theirs = records[first].where(both), records[other].where(both)
        subjects = [facts[key].subject if key in facts else key for key in mine.keys]
        clusters = subjects if len(set(subjects)) < len(subjects) else None
        found = differences(mine, theirs, bootstrap, clusters)
        result.append(Difference(first, other, len(mine), len(set(subjects)), found))
    return result


def _answered(records: Records) -> np.ndarray:
    """Rows (N,) in which anything was measured."""
    found = np.zeros(len(records), bool)
    for rows in records.columns.values():
        found |= rows != 0
    return found


def _values(split: str, rows: Records, facts: Sequence[Facts | None]) -> np.ndarray:
    if split == TOUCH:
        touching = rows.columns.get("presence_tp", np.zeros(len(rows))) + rows.columns.get("presence_fn", 0)
        labelled = touching + rows.columns.get("presence_fp", 0) + rows.columns.get("presence_tn", 0)
        return np.where(labelled > 0, np.where(touching > 0, "touching", "apart"), "")
    return np.array(["" if fact is None else fact.value(split) for fact in facts], dtype=str)


def _row(system: str, split: str, subset: str, rows: Records, subjects: np.ndarray, bootstrap: BootstrapConfig) -> Row:
    frames = summarise(rows, bootstrap)
    return Row(
        system=system,
        split=split,
        subset=subset,
        samples=len(rows),
        subject_count=len(set(subjects.tolist())),
        frames=frames,
        subjects=summarise(rows, bootstrap, clusters=subjects.tolist()),
    )
