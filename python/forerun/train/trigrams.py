"""Chimera (Zeng et al., arXiv 2402.15758) in PyTorch: tokens, three at a time, attend to the states of the text.

Called as the drafts of `models` are. A row's own output is the foreseen state of its token; the rows below it attend
to it in the place of the target's. The state that a row hands down is that, and the target's state before the root,
which a head of its own reads beside it.

The authors' code trains one network and drafts with another. Here a row attends to states only, those before its token:
its own tokens are what the attention is added to, and are not looked at by others. One head serves all depths.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from forerun.train.config import REACH, DraftConfig
from forerun.train.models import Block, DraftBase, Seen, head_rows


class Chimera(DraftBase):
    """A trigram encoder, a decoder block and a head."""

    most_steps = REACH - 1

    def __init__(self, config: DraftConfig, embedding: Tensor, head: Tensor, draft_tokens: Tensor) -> None:
        super().__init__(config, embedding, draft_tokens)
        tokens = config.tokens_read * config.width
        self.trigram = nn.ModuleDict(
            {"block": nn.Linear(tokens, tokens), "out": nn.Linear(tokens, config.width, bias=False)}
        )
        self.block = nn.ModuleList([Block(config, 1, normed=True)])
        self.head = head_rows(head, draft_tokens, config.own_head)
        if config.own_head:  # at first it reads the foreseen state as the target's head would
            rows = self.head.weight.data
            self.head.weight.data = torch.cat([rows, torch.zeros_like(rows)], -1)

    def initialise(self) -> None:
        super().initialise()
        nn.init.zeros_(self.trigram["block"].weight)
        nn.init.zeros_(self.trigram["block"].bias)

    def begin(self, features: Tensor, tokens: Tensor, present: Tensor, start: int) -> tuple[Tensor, list[Seen]]:
        block = self.block[0]
        columns = torch.arange(features.shape[1], device=features.device)[start:]
        seen = block.first_keys(block.attn_norm(features))
        x = self._encode(tokens[:, start:])
        x = block(block.attn_norm(x), x, columns, 0, seen, present)
        return torch.cat([x, features[:, start:].to(x.dtype)], -1), [seen]

    def extend(
        self, state: Tensor, tokens: Tensor, columns: Tensor, step: int, seen: list[Seen], present: Tensor
    ) -> Tensor:
        block = self.block[0]
        own, root = state.split(self.config.width, -1)
        x = self._encode(tokens)
        block.show(block.attn_norm(own), columns, step, seen[0])
        x = block(block.attn_norm(x), x, columns, step, seen[0], present)
        return torch.cat([x, root], -1)

    def readout(self, state: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return state[..., : self.config.head_inputs], self.head.weight

    def foretold(self, state: Tensor, step: int) -> Tensor:
        return state[..., : self.config.width]

    def _encode(self, tokens: Tensor) -> Tensor:
        embedded = self.embed(tokens)
        return self.trigram["out"](embedded + functional.silu(self.trigram["block"](embedded)))
