"""Which vertices touch, and whether anything does: counts for precision, recall, F1 and accuracy, pooled over all frames."""

from __future__ import annotations

import torch

from handface.trainers.metrics.meshes import Meshes

THRESHOLD = 0.5


def confusion(probability: torch.Tensor, label: torch.Tensor, name: str) -> dict[str, torch.Tensor]:
    """Counts per sample: {name_tp, name_fp, name_fn, name_tn}, (B,) each. probability, label: (B, V) or (B,); above 0.5 is yes."""
    said, true = probability.reshape(len(label), -1) > THRESHOLD, label.reshape(len(label), -1) > THRESHOLD
    counts = {"tp": said & true, "fp": said & ~true, "fn": ~said & true, "tn": ~said & ~true}
    return {f"{name}_{kind}": hits.sum(1).to(torch.float32) for kind, hits in counts.items()}


def contact_counts(prediction: Meshes, truth: Meshes) -> dict[str, torch.Tensor]:
    """Counts of face, hand and presence (any contact at all)."""
    return (
        confusion(prediction.head_contact, truth.head_contact, "face")
        | confusion(prediction.hand_contact, truth.hand_contact, "hand")
        | confusion(prediction.presence, truth.presence, "presence")
    )
