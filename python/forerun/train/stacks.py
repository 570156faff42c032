"""Medusa (Cai et al., arXiv 2401.10774) and Hydra (Ankner et al., arXiv 2402.05109) in PyTorch: a stack for every depth
below the root, all on one state of the target; those of Hydra read the tokens between as well.

Called as the drafts of `models` are. The state of a row is what the runtime hands down a tree: the target's feature,
and in Hydra the embeddings of the tokens after it. In Hydra++ a decoder block over the text comes before the stacks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from forerun.train.config import DraftConfig
from forerun.train.models import Block, DraftBase, RmsNorm, Seen, head_rows


class Stack(nn.Module):
    """What guesses at depth `index`: Hydra's first layer over state and tokens, then layers x + silu(linear x)."""

    def __init__(self, config: DraftConfig, index: int, rows: Tensor) -> None:
        super().__init__()
        width, blocks = config.width, config.stack_layers
        if config.family == "hydra":
            self.skip = nn.Linear((index + 2) * width, width)
            self.add_module("in", nn.Linear((index + 2) * width, width))  # the tensor's name, which Python reserves
            blocks -= 1
        self.block = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        if config.own_head:
            self.head = nn.Linear(width, len(rows), bias=False)
            self.head.weight = nn.Parameter(rows.clone())

    def begin_as_identity(self) -> None:
        """At first a stack guesses as the target's head would on the state before the root (Medusa's recipe)."""
        for name, parameter in self.named_parameters():
            if not name.startswith("head."):
                nn.init.zeros_(parameter)
        if hasattr(self, "skip"):
            nn.init.eye_(self.skip.weight)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "skip"):
            x = self.skip(x) + functional.silu(self.get_submodule("in")(x))
        for block in self.block:
            x = x + functional.silu(block(x))
        return x


class Stacks(DraftBase):
    """A draft of stacks. With own_head each has a head of its own; without, all use the target's rows."""

    def __init__(self, config: DraftConfig, embedding: Tensor, head: Tensor, draft_tokens: Tensor) -> None:
        super().__init__(config, embedding, draft_tokens)
        if config.blocks:
            self.block = nn.ModuleList([Block(config, 1, normed=True)])
            self.norm = RmsNorm(config.width, config.norm_epsilon)
        rows = head[draft_tokens]
        made = nn.ModuleList(Stack(config, index, rows) for index in range(config.stacks))
        self.add_module(config.family, made)
        if not config.own_head:
            self.head = head_rows(head, draft_tokens, learns=False)

    @property
    def stacks(self) -> nn.ModuleList:
        return self.get_submodule(self.config.family)

    @property
    def most_steps(self) -> int:
        return self.config.stacks

    def initialise(self) -> None:
        super().initialise()
        for stack in self.stacks:
            stack.begin_as_identity()

    def begin(self, features: Tensor, tokens: Tensor, present: Tensor, start: int) -> tuple[Tensor, list[Seen]]:
        state = features[:, start:]
        if self.config.blocks:
            block = self.block[0]
            x = block.attn_norm(features)
            columns = torch.arange(features.shape[1], device=features.device)[start:]
            seen = block.first_keys(x)
            state = self.norm(block(x[:, start:], state, columns, 0, seen, present))
        return self._with_token(state, tokens[:, start:]), []

    def extend(
        self, state: Tensor, tokens: Tensor, columns: Tensor, step: int, seen: list[Seen], present: Tensor
    ) -> Tensor:
        return self._with_token(state, tokens)

    def readout(self, state: Tensor, step: int) -> tuple[Tensor, Tensor]:
        stack = self.stacks[step]
        return stack(state), (stack if self.config.own_head else self).head.weight

    def _with_token(self, state: Tensor, tokens: Tensor) -> Tensor:
        if self.config.family == "medusa":
            return state
        return torch.cat([state, self.embed(tokens).to(state.dtype)], -1)
