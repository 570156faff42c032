"""Losses of a draft against its target.

Rows are flat here: R rows, each with the target's k likeliest tokens as rows of the draft head. The target's law is
kept to the draft's vocabulary and renormalised, as EAGLE-3 does; a row whose likeliest token the draft cannot say is
left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK = 512  # rows whose logits exist at one time


def target_law(top_tokens: Tensor, top_logprobs: Tensor, row_of: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The target's law over the head's rows: rows [R, k] (0 where absent), probabilities [R, k] summing to 1, and
    which rows to learn from [R].
    """
    rows = row_of[top_tokens]
    inside = rows >= 0
    p = top_logprobs.float().exp() * inside
    learn = inside[:, 0]
    total = p.sum(-1, keepdim=True)
    return rows.clamp_min(0), p / total.clamp_min(1e-9), learn & (total[:, 0] > 0)


def draft_law_loss(hidden: Tensor, weight: Tensor, rows: Tensor, p: Tensor) -> Tensor:
    """Sum over R rows of the cross-entropy -sum_k p log softmax(hidden weight^T)[rows]: hidden [R, d], weight
    [Vd, d], rows and p [R, k]. Its logits are made and forgotten a few rows at a time.
    """
    return _HeadCrossEntropy.apply(hidden, weight, rows, p)


class _HeadCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, rows: Tensor, p: Tensor) -> Tensor:
        narrow = torch.bfloat16 if torch.is_autocast_enabled(hidden.device.type) else torch.float32
        w = weight.to(narrow)
        grad_hidden = torch.empty_like(hidden, dtype=torch.float32)
        learns = ctx.needs_input_grad[1]
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if learns else None
        total = hidden.new_zeros((), dtype=torch.float64)
        with torch.autocast(hidden.device.type, enabled=False):
            for begin in range(0, len(hidden), _CHUNK):
                part = slice(begin, begin + _CHUNK)
                h = hidden[part].to(narrow)
                logits = functional.linear(h, w).float()
                norm = logits.logsumexp(-1)
                mass = p[part].sum(-1)
                total += (norm * mass - (p[part] * logits.gather(1, rows[part])).sum(-1)).sum()
                slope = logits.sub_(norm[:, None]).exp_().mul_(mass[:, None])
                slope.scatter_add_(1, rows[part], -p[part])
                slope = slope.to(narrow)
                grad_hidden[part] = slope @ w
                if grad_weight is not None:
                    grad_weight += slope.T @ h
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.kinds = (hidden.dtype, weight.dtype)
        return total.float()

    @staticmethod
    def backward(ctx, slope: Tensor):
        grad_hidden, grad_weight = ctx.saved_tensors
        grad_weight = None if grad_weight is None else (grad_weight * slope).to(ctx.kinds[1])
        return (grad_hidden * slope).to(ctx.kinds[0]), grad_weight, None, None


def feature_loss(output: Tensor, feature: Tensor) -> Tensor:
    """Sum over rows of SmoothL1 averaged over the width (EAGLE-1, Dovetail): output, feature [R, d]."""
    return functional.smooth_l1_loss(output.float(), feature.float(), reduction="none").mean(-1).sum()
