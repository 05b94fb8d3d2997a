"""Networks whose weights come from a file: no time for random ones that are replaced at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

_DRAWS = {
    *(init.kaiming_normal_, init.kaiming_uniform_, init.normal_, init.trunc_normal_, init.uniform_),
    *(init.xavier_normal_, init.xavier_uniform_),
    *(torch.Tensor.normal_, torch.Tensor.uniform_),
}


class Unfilled(TorchFunctionMode):
    """Within it a network is made without a random number: what would be drawn holds whatever was in memory.

    The device "meta" would do without the memory too, but whoever touches it first waits 2.5 s for what torch imports.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Hand back what would be filled, as it is; do everything else."""
        named = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else named["tensor"]
        return func(*args, **named)
