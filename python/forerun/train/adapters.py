"""Kangaroo (Liu et al., arXiv 2404.18911) in PyTorch: an adapter behind some first layers of the target, which run over
every token, guessed ones too.

Called as the drafts of `models` are, but a row is the state of its own token: that of column c is made of the feature
of token c + 1. What a row says below a root is therefore what the same token's row says in the text, and there is
nothing to unroll.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from forerun.train.config import REACH, DraftConfig
from forerun.train.models import Block, DraftBase, RmsNorm, head_rows


class Adapter(DraftBase):
    """Attention blocks and a norm before the head; the paper has one block and no feed-forward part in it."""

    most_steps = REACH - 1

    def __init__(self, config: DraftConfig, embedding: Tensor, head: Tensor, draft_tokens: Tensor) -> None:
        super().__init__(config, embedding, draft_tokens)
        self.block = nn.ModuleList(Block(config, 1, normed=True) for _ in range(config.blocks))
        self.norm = RmsNorm(config.width, config.norm_epsilon)
        self.head = head_rows(head, draft_tokens, config.own_head)

    def begin(self, features: Tensor, tokens: Tensor, present: Tensor, start: int) -> tuple[Tensor, list[Tensor]]:
        columns = torch.arange(features.shape[1], device=features.device)
        x = features
        for index, block in enumerate(self.block):
            into = block.attn_norm(x)
            seen = block.first_keys(into)
            if index == len(self.block) - 1:
                columns, x, into = columns[start + 1 :], x[:, start + 1 :], into[:, start + 1 :]
            x = block(into, x, columns, 0, seen, present)
        rows = functional.pad(x, (0, 0, start, REACH))  # by the column that they are the rows of
        return rows[:, start : features.shape[1]], [rows]

    def extend(
        self, state: Tensor, tokens: Tensor, columns: Tensor, step: int, seen: list[Tensor], present: Tensor
    ) -> Tensor:
        return seen[0][:, columns + step]

    def readout(self, state: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return self.norm(state), self.head.weight
