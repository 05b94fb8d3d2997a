"""Softmax attention, as fast as the device does it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

# oneDNN's product a b^T + 0, which torch calls for compiled networks. On CPUs of other makers than Intel it is twice as fast in float32
# as the library behind `torch.mm`, which does not use their wide registers.
_product = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


_KEPT = 1 << 24  # probabilities of one call that are kept for its backward pass, 64 MiB; more are made again


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v. (B, heads, T, d) each -> (B, heads, T, d). dropout: share of the attention left out."""
    plain = q.device.type == "cpu" and q.dtype == torch.float32 and dropout == 0 and torch.is_grad_enabled()
    if _product is None or not plain or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    attended: torch.Tensor = _Attention.apply(*(each.flatten(0, 1) for each in (q, k, v)))
    return attended.unflatten(0, q.shape[:2])


class _Attention(torch.autograd.Function):
    """One (T, T) matrix after the other, which fits the cache."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """(N, T, d) each -> (N, T, d)."""
        q, k = q * q.shape[-1] ** -0.5, k.contiguous()
        turned = v.transpose(1, 2).contiguous()
        out = torch.empty_like(q)
        keep = len(q) * q.shape[1] ** 2 <= _KEPT
        kept = []
        for item in range(len(q)):
            p = _probabilities(q[item], k[item])
            out[item] = _dot(p, turned[item])
            if keep:
                kept.append(p)
        ctx.save_for_backward(q, k, v, out, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, T, d) -> the same of q, k and v."""
        q, k, v, out, *kept = ctx.saved_tensors
        gradient, v = gradients[0].contiguous(), v.contiguous()
        q_turned, k_turned, gradient_turned = (each.transpose(1, 2).contiguous() for each in (q, k, gradient))
        of_q, of_k, of_v = torch.empty_like(q), torch.empty_like(q_turned), torch.empty_like(q_turned)
        mean = (gradient * out).sum(-1, keepdim=True)
        for item in range(len(q)):
            p = kept[item] if kept else _probabilities(q[item], k[item])
            of_v[item] = _dot(gradient_turned[item], p.t())
            scores = _dot(gradient[item], v[item]).sub_(mean[item]).mul_(p)
            of_q[item] = _dot(scores, k_turned[item])
            of_k[item] = _dot(q_turned[item], scores.t())
        return of_q * q.shape[-1] ** -0.5, of_k.transpose(1, 2), of_v.transpose(1, 2)


def _probabilities(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    scores = _dot(q, k)
    return torch.softmax(scores, -1, out=scores)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a b^T. (n, d) and (m, d) -> (n, m)."""
    assert _product is not None
    return _product(a, b, None, "none", [], "")
