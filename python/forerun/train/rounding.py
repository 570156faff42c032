"""Training with the rounding of the file's weights (quantisation-aware): a pass sees what the runtime will multiply
with, and the slope is taken for the weights behind it (straight through: Bengio et al., arXiv 1308.3432).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

COARSE = ("q4_1",)  # weights whose rounding is worth training with


@contextmanager
def rounded(model: nn.Module, weights: str) -> Iterator[None]:
    """While it lasts, the trained matrices of `model` have the values that a file of `weights` would hold."""
    learnt = [matrix for matrix in model.parameters() if matrix.ndim == 2 and matrix.requires_grad]
    exact = [(matrix, matrix.data) for matrix in learnt if weights in COARSE]
    for matrix, value in exact:
        matrix.data = q4_1(value)
    try:
        yield
    finally:
        for matrix, value in exact:
            matrix.data = value


def q4_1(matrix: Tensor) -> Tensor:
    """Sixteen steps from the least to the greatest of each 32 neighbours of a row, both ends in half precision."""
    blocks = matrix.detach().float().unflatten(-1, (-1, 32))
    least, most = blocks.aminmax(dim=-1, keepdim=True)
    step = (most - least) / 15
    codes = ((blocks - least) * torch.where(step == 0, 0.0, 1 / step) + 0.5).floor_().clamp_(0, 15)
    return (codes * step.half().float() + least.half().float()).flatten(-2).to(matrix.dtype)
