"""Muon over blocks of rows.

Muon (Jordan et al., 2024) goes in the direction of a matrix's momentum with all singular values made 1. For n x n
that takes 30 n^3 operations whatever the batch; on a CPU, with 1536 values and 2048 rows a batch, twice what the slopes
took. Blocks of b rows, each for itself, need about b / n of it (block-wise orthogonalisation as in MuonBP, arXiv
2510.16981, without its periodic step over whole matrices).
"""

from __future__ import annotations

import torch
from torch import Tensor

_MOMENTUM = 0.95
_QUINTIC = (3.4445, -4.7750, 2.0315)  # a x + b x^3 + c x^5 of each singular value x
_ITERATIONS = 5


class BlockMuon(torch.optim.Optimizer):
    """torch.optim.Muon with adjust_lr_fn="original" for each block of at most `block_rows` rows of every matrix; blocks
    of a matrix are equal. With blocks as high as the matrices it is Muon itself.
    """

    def __init__(self, matrices: list[Tensor], lr: float, weight_decay: float, block_rows: int = 256) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self._block_rows = block_rows

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, group["lr"], group["weight_decay"])

    def _update(self, matrix: Tensor, rate: float, decay: float) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - _MOMENTUM)
        ahead = matrix.grad.lerp(mean, _MOMENTUM)  # Nesterov's
        blocks = ahead.unflatten(0, (_count(len(matrix), self._block_rows), -1))
        rows, columns = blocks.shape[1:]
        direction = orthogonal(blocks).flatten(0, 1)
        matrix.mul_(1 - rate * decay)
        matrix.add_(direction, alpha=-rate * max(1.0, rows / columns) ** 0.5)


def orthogonal(blocks: Tensor) -> Tensor:
    """Of each matrix of blocks [count, rows, columns], about the nearest one with orthogonal rows or columns: five
    steps of a quintic Newton-Schulz iteration in bf16, after which singular values lie between about 0.7 and 1.2.
    """
    tall = blocks.shape[1] > blocks.shape[2]
    x = (blocks.mT if tall else blocks).bfloat16()
    x = x / x.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _count(rows: int, most: int) -> int:
    """The least number of equal blocks of at most `most` rows."""
    return next(count for count in range(-(-rows // most), rows + 1) if rows % count == 0)
