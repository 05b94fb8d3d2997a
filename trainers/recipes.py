"""What each preset is trained with unless something else is asked for: the tables are merged under a run's own settings.

`dice-w64` keeps the numbers of the released training script, which fine-tune a network that starts from trained weights. The
small networks start from nothing, `dice-m` but for its ImageNet features; with the released rate and clipping they stand at the mean
pose after a thousand steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FROM_NOTHING: dict[str, Any] = {
    "optim": {
        # fifty times the released rate: nothing is there yet that a large step could destroy
        "lr": 1.5e-3,
        # no second plateau to tune; the last steps are small, so that the average settles
        "schedule": "cosine",
        # single entries are large while everything moves; only the whole gradient is bounded
        "clip_value": None,
        "clip_norm": 10.0,
        "ema": 0.995,
    },
    "loss": {
        "weights": {
            # axis-angles of a wrong rotation are no direction to go in: vertices lead, parameters follow
            "parameters": 50.0,
            "contact": 150.0,
            # what a mesh that is still centimetres off does not need, and what costs most on a CPU; a longer run turns them on late,
            # with `starts`
            "touch": 0.0,
            "collision": 0.0,
            "depth": 0.0,
        },
        # the plain cross-entropy leaves contact at "nothing touches", as one vertex in fifty does
        "contact": "root",
    },
}

RECIPES: dict[str, dict[str, Any]] = {
    "dice-nano": {**_FROM_NOTHING, "steps": 3000, "validate_every": 250, "checkpoint_every": 250},
    "dice-m": {
        **_FROM_NOTHING,
        # starts from `handface weights new dice-m --points`: a smaller rate keeps what its heads know already
        "optim": {**_FROM_NOTHING["optim"], "lr": 8e-4, "warm_up": 80, "ema": 0.997},
        "data": {"batch_size": 24, "augment": {"rotation": 40.0}},
        "steps": 4600,
        "validate_every": 1150,
        "checkpoint_every": 300,
    },
    "dice-s": {
        **_FROM_NOTHING,
        # ten times the weights of dice-nano, so smaller steps and a longer average
        "optim": {**_FROM_NOTHING["optim"], "lr": 5e-4, "ema": 0.999},
        "steps": 60_000,
    },
    "dice-w64": {},
}
"""{preset: settings that differ from the released ones}, nested as `TrainConfig` is."""


def with_recipe(settings: Mapping[str, Any], preset: str) -> dict[str, Any]:
    """Settings of a run, completed by its preset's recipe; what the settings name themselves stays."""
    return _merge(RECIPES.get(preset, {}), settings)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        known = merged.get(name)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[name] = _merge(known, value) if both else value  # type: ignore[arg-type]
    return merged
