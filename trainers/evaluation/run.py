"""The hall of evaluation: systems x samples -> rows -> tables with confidence intervals.

collect: every system answers every batch, one row of numbers per sample (trainers/metrics)
tabulate: rows of a system, whole and by subset -> estimates
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from handface.trainers.batch import Batch
from handface.trainers.evaluation.config import BootstrapConfig, TableConfig
from handface.trainers.evaluation.facts import CONTACT_SCORE, Facts
from handface.trainers.evaluation.systems import System, Truth
from handface.trainers.metrics import Estimate, Records, Surface, gather, hand_depths, measure, summarise

WHOLE = "all"
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


def collect(
    systems: Mapping[str, System],
    batches: Iterable[Batch],
    truth: Truth,
    surface: Surface | None,
    facts: Mapping[str, Facts] | None = None,
    progress: Callable[[int], None] = lambda samples: None,
) -> dict[str, Records]:
    """Every system's rows over all batches, of all ranks. truth: labels as meshes, on the systems' device; of samples without
    3D labels, anything.  surface: None leaves plausibility out.  progress: gets the samples of each batch.
    """
    rows: dict[str, list[Records]] = {name: [] for name in systems}
    for batch in batches:
        expected = truth(batch)
        reference = None if surface is None else hand_depths(expected, surface, batch.has_mesh)
        for name, system in systems.items():
            answer = system(batch, expected)
            measured = measure(batch, answer.meshes, expected, surface, answer.direct, reference)
            rows[name].append(_with_agreement(measured, answer.meshes.presence.double().cpu().numpy(), batch, facts))
        progress(len(batch))
    return {name: gather(Records.merge(parts)) for name, parts in rows.items()}


def _with_agreement(records: Records, presence: np.ndarray, batch: Batch, facts: Mapping[str, Facts] | None) -> Records:
    """Columns `agrees` and `judged`: does predicted contact agree with the filter's, where no label tells?"""
    if facts is None:
        return records
    scores = [None if (fact := facts.get(key)) is None else fact.contact for key in batch.keys]
    judged = np.array([score is not None for score in scores]) & ~batch.has_contact.cpu().numpy()
    said = np.array([score is not None and score >= CONTACT_SCORE for score in scores])
    agrees = judged & ((presence > 0.5) == said)
    return Records(records.keys, {**records.columns, "agrees": agrees.astype(float), "judged": judged.astype(float)})


def tabulate(records: Mapping[str, Records], facts: Mapping[str, Facts], config: TableConfig) -> list[Row]:
    """Rows of the result: per system the whole set, then each subset of each split. Deterministic."""
    result = []
    for system, rows in records.items():
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
    return result


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
