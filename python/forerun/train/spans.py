"""Falcon (Gao et al., arXiv 2412.12639) in PyTorch: a forward guesses `span` tokens, over as many rows that see one
another.

Called as the drafts of `models` are. The rows of a column and a step whose number is a multiple of the span are the
span's: they read the tokens up to that step's and the states before them, and the steps after it find their guess in
them. The state that is handed down is what the rows below read: the last span - 1 states that these read, and the span
states that they made. A row has an LSTM of its own, over the last `span` tokens and states, so that it is the same
whatever came before them, at training as in the runtime; the authors leave open what their LSTM remembers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forerun.train.config import REACH, DraftConfig
from forerun.train.models import Block, DraftBase, Seen, head_rows


class LstmLayer(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.add_module("in", nn.Linear(inputs, 4 * width))  # the tensor's name, which Python reserves
        self.hidden = nn.Linear(width, 4 * width, bias=False)

    def forward(self, rows: list[Tensor]) -> list[Tensor]:
        """What is put out after each of the inputs [..., inputs]; before the first, nothing is remembered."""
        found: list[Tensor] = []
        cell = None
        for x in rows:
            gates = self.get_submodule("in")(x)
            if found:
                gates = gates + self.hidden(found[-1])
            keep, forget, fresh, show = gates.float().chunk(4, -1)
            fresh = torch.sigmoid(keep) * torch.tanh(fresh)
            cell = fresh if cell is None else torch.sigmoid(forget) * cell + fresh
            found.append(torch.sigmoid(show) * torch.tanh(cell))
        return found


class Falcon(DraftBase):
    """A two-layer LSTM, a decoder block and a head."""

    most_steps = REACH - 1

    def __init__(self, config: DraftConfig, embedding: Tensor, head: Tensor, draft_tokens: Tensor) -> None:
        super().__init__(config, embedding, draft_tokens)
        width = config.width
        self.lstm = nn.ModuleList([LstmLayer(2 * width, width), LstmLayer(width, width)])
        self.block = nn.ModuleList([Block(config, 1, normed=False)])
        self.head = head_rows(head, draft_tokens, config.own_head)

    def begin(self, features: Tensor, tokens: Tensor, present: Tensor, start: int) -> tuple[Tensor, list[Seen]]:
        every = torch.arange(features.shape[1], device=features.device)
        read = [features]  # by how far back
        for back in range(1, 2 * self.config.span - 1):
            there = present[:, (every - back).clamp_min(0)] & (every >= back)
            read.append(torch.where(there[..., None], features[:, (every - back).clamp_min(0)], read[-1]))
        states = torch.stack(read[::-1], 2)
        seen = self.block[0].first_keys(self._row(states, tokens, self.config.span - 1))
        return self._span(states[:, start:], tokens[:, start:], every[start:], 0, seen, present), [seen]

    def extend(
        self, state: Tensor, tokens: Tensor, columns: Tensor, step: int, seen: list[Seen], present: Tensor
    ) -> Tensor:
        if step % self.config.span:
            return state
        return self._span(state.unflatten(-1, (-1, self.config.width)), tokens, columns, step, seen[0], present)

    def readout(self, state: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return self.foretold(state, step), self.head.weight

    def foretold(self, state: Tensor, step: int) -> Tensor:
        place = self.config.span - 1 + step % self.config.span
        return state[..., place * self.config.width : (place + 1) * self.config.width]

    def _span(self, states: Tensor, tokens: Tensor, columns: Tensor, step: int, seen: Seen, present: Tensor) -> Tensor:
        """The state after a span: states [B, C, 2 span - 1, d] and tokens that its rows read."""
        block, span = self.block[0], self.config.span
        rows = [self._row(states, tokens, row) for row in range(span)]
        places = [step + row + 1 - span for row in range(span)]
        if step:  # the text's rows have shown themselves
            for row, place in zip(rows, places, strict=True):
                block.show(row, columns, place, seen)
        made = [block(row, row, columns, place, seen, present) for row, place in zip(rows, places, strict=True)]
        return torch.cat([*states[..., span:, :].to(made[0].dtype).unbind(-2), *made], -1)

    def _row(self, states: Tensor, tokens: Tensor, row: int) -> Tensor:
        """What enters the block in a row: [B, C, d]."""
        embedded = [self.embed(tokens[..., at : at + 1]) for at in range(row, row + self.config.span)]
        read = states[..., row : row + self.config.span, :].unbind(-2)
        rows = [torch.cat([e, s.to(e.dtype)], -1) for e, s in zip(embedded, read, strict=True)]
        for layer in self.lstm:
            rows = layer(rows)
        return rows[-1]
