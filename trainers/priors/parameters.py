"""A set of real body parameters: what the priors compare the network's with, and its compact file."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
FORMAT = "handface-parameters/1"
HAND, HEAD = ("hand_pose", "hand_betas"), ("head_jaw", "head_expression", "head_betas")
_LIMIT = 1e3  # radians or shape units: nothing real comes near


class PriorDataError(ValueError):
    """A source of real parameters is missing, damaged or of another body; the message names file and entry."""


@dataclass(frozen=True)
class ParameterSet:
    """Parameters of N hands (hand_*), M heads (head_*), or both; float32, None where a part is not there.

    hand_pose: (N, P) axis-angle from the FLAT hand, right hands.  hand_betas: (N, S).
    head_jaw: (M, 3) axis-angle.  head_expression: (M, E).  head_betas: (M, S).
    hand_model, head_model: bodies whose coefficients these are (`mano`, `flame`, `free-hand` ...).  source: where from.
    """

    source: str
    hand_pose: Floats | None = None
    hand_betas: Floats | None = None
    head_jaw: Floats | None = None
    head_expression: Floats | None = None
    head_betas: Floats | None = None
    hand_model: str | None = None
    head_model: str | None = None

    def __post_init__(self) -> None:
        for part in (HAND, HEAD):
            found = [getattr(self, name) for name in part]
            if all(value is None for value in found):
                continue
            if any(value is None or value.ndim != 2 or len(value) != len(found[0]) for value in found):
                shapes = {name: None if (v := getattr(self, name)) is None else v.shape for name in part}
                raise PriorDataError(
                    f"{self.source}: expected (N, width) for each of {', '.join(part)}, found {shapes}"
                )
            for name, value in zip(part, found, strict=True):
                wrong = np.flatnonzero(~(np.abs(value) < _LIMIT).all(1))
                if len(wrong):
                    raise PriorDataError(f"{self.source}: {name} of entry {wrong[0]} is not finite or absurdly large")

    def hands(self) -> Floats:
        """(N, P + S) pose, betas; no rows if the set has no hands."""
        return self._joined(HAND)

    def heads(self) -> Floats:
        """(M, 3 + E + S) jaw, expression, betas; no rows if the set has no heads."""
        return self._joined(HEAD)

    def _joined(self, names: tuple[str, ...]) -> Floats:
        values = [value for name in names if (value := getattr(self, name)) is not None]
        return np.concatenate(values, 1) if values else np.zeros((0, 0), np.float32)

    def unique(self) -> ParameterSet:
        """Equal rows once: the cameras of a studio show the same parameters many times. The first of each stays, in order."""
        kept: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for names, rows in ((HAND, self.hands()), (HEAD, self.heads())):
            if len(rows):
                first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
                kept |= {name: getattr(self, name)[first] for name in names}
        return ParameterSet(**kept)

    def save(self, path: Path) -> None:
        """Write as one `.safetensors` file, whole or not at all."""
        from safetensors.numpy import save

        tensors = {name: np.ascontiguousarray(v) for name in HAND + HEAD if (v := getattr(self, name)) is not None}
        names = {"hand_model": self.hand_model, "head_model": self.head_model}
        metadata = {"format": FORMAT, "source": self.source} | {k: v for k, v in names.items() if v is not None}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_bytes(save(tensors, metadata=metadata))
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> ParameterSet:
        """Read what `save` wrote. Raises PriorDataError naming file and tensor."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            blob = path.read_bytes()
            tensors = load(blob)
            header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        except (SafetensorError, ValueError) as error:
            raise PriorDataError(f"{path}: not a readable safetensors file ({error})") from error
        metadata = header.get("__metadata__", {})
        if metadata.get("format") != FORMAT:
            raise PriorDataError(
                f"{path}: no parameter file ({FORMAT}) but {metadata.get('format')!r}; make one with `handface priors`"
            )
        if unknown := sorted(tensors.keys() - {*HAND, *HEAD}):
            raise PriorDataError(f"{path}: unknown tensors {', '.join(unknown)}")
        arrays = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
        return cls(str(path), **arrays, hand_model=metadata.get("hand_model"), head_model=metadata.get("head_model"))
