"""The drafts in PyTorch. Parameters carry the names of the draft file's tensors (docs/formats.md), so that a state
dict is what `export` writes; the runtime's graphs are the twins of these.

A draft is called row-wise as `data` lays out: `begin` for rows made of the target's features, `extend` for rows made
of the draft's own outputs, which see the first rows up to their own column and their own chain (training-time test of
EAGLE-3, Li et al., arXiv 2503.01840; used for every family here). Families: DGF of Dovetail (Zhang et al., arXiv
2412.18934), EAGLE (Li et al., arXiv 2401.15077), EAGLE-3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from forerun.train.config import REACH, DraftConfig


class RmsNorm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


def rotate(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Rotary positions [C] of [B, C, heads, dim], the two halves of a head rotated against each other."""
    half = x.shape[-1] // 2
    exponents = torch.arange(half, device=x.device, dtype=torch.float32) / half
    angles = positions.float()[:, None] * base**-exponents
    cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]
    low, high = x.float().split(half, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


@dataclass
class Seen:
    """Keys and values of one block: of the first rows [B, T, kv, dim], and of each row's own chain so far."""

    keys: Tensor
    values: Tensor
    chain: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class Block(nn.Module):
    """A decoder block over `wide` * width inputs to attention. Without `normed`, its input is not normalised."""

    def __init__(self, config: DraftConfig, wide: int, normed: bool) -> None:
        super().__init__()
        self.config = config
        width, inner = config.width, config.heads * config.head_dim
        self.attn_norm = RmsNorm(width, config.norm_epsilon) if normed else None
        self.q = nn.Linear(wide * width, inner, bias=False)
        self.k = nn.Linear(wide * width, config.kv_heads * config.head_dim, bias=False)
        self.v = nn.Linear(wide * width, config.kv_heads * config.head_dim, bias=False)
        self.o = nn.Linear(inner, width, bias=False)
        if not config.ffn_width:
            return
        self.ffn_norm = RmsNorm(width, config.norm_epsilon)
        self.gate = nn.Linear(width, config.ffn_width, bias=False)
        self.up = nn.Linear(width, config.ffn_width, bias=False)
        self.down = nn.Linear(config.ffn_width, width, bias=False)

    def first_keys(self, x: Tensor) -> Seen:
        """Keys and values of the first rows, all columns."""
        positions = torch.arange(x.shape[1], device=x.device)
        return Seen(self._keys(x, positions), self._values(x))

    def forward(
        self,
        x: Tensor,
        residual: Tensor,
        columns: Tensor,
        step: int,
        seen: Seen,
        present: Tensor,
    ) -> Tensor:
        """Rows at the place columns [C] + step; x [B, C, wide * width] enters attention."""
        queries = rotate(self._split(self.q(x), self.config.heads), columns + step, self.config.rope_base)
        h = residual + self.o(self._attend(queries, columns, seen, present))
        if not self.config.ffn_width:
            return h
        y = self.ffn_norm(h)
        return h + self.down(functional.silu(self.gate(y)) * self.up(y))

    def show(self, x: Tensor, columns: Tensor, step: int, seen: Seen) -> None:
        """Rows at the place columns + step of the chains, seen from now on."""
        seen.chain.append((self._keys(x, columns + step), self._values(x)))

    def _keys(self, x: Tensor, positions: Tensor) -> Tensor:
        return rotate(self._split(self.k(x), self.config.kv_heads), positions, self.config.rope_base)

    def _values(self, x: Tensor) -> Tensor:
        return self._split(self.v(x), self.config.kv_heads)

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.config.head_dim))

    def _attend(self, queries: Tensor, columns: Tensor, seen: Seen, present: Tensor) -> Tensor:
        _, rows, heads, dim = queries.shape
        groups = heads // self.config.kv_heads
        q = (
            queries.unflatten(2, (self.config.kv_heads, groups)).permute(0, 2, 3, 1, 4) * dim**-0.5
        )  # [B, kv, g, C, dim]
        keys, values = seen.keys.permute(0, 2, 3, 1), seen.values.permute(0, 2, 1, 3)
        scores = torch.matmul(q.flatten(2, 3), keys).unflatten(2, (groups, rows)).float()  # [B, kv, g, C, T]
        visible = torch.arange(keys.shape[-1], device=q.device)[None] <= columns[:, None]
        visible = visible[None] & present[:, None, : keys.shape[-1]]
        scores = scores.masked_fill(~visible[:, None, None], float("-inf"))
        own = [(q.float() * k.permute(0, 2, 1, 3)[:, :, None].float()).sum(-1) for k, _ in seen.chain]
        weights = torch.cat([scores, *(one[..., None] for one in own)], -1)
        # A row of padding may see nothing: its weights are then made finite, and its output is never used.
        weights = weights.nan_to_num(neginf=-1e9).softmax(-1)
        first = weights[..., : keys.shape[-1]]
        out = torch.matmul(first.flatten(2, 3), values.to(first.dtype)).unflatten(2, (groups, rows)).float()
        for index, (_, v) in enumerate(seen.chain):
            out = out + weights[..., keys.shape[-1] + index, None] * v.permute(0, 2, 1, 3)[:, :, None].float()
        return out.permute(0, 3, 1, 2, 4).flatten(2)


class DraftBase(nn.Module):
    """What drafts have in common. `embedding` [V, d] is the target's, frozen and not part of the state; so is the head
    without own_head.

    draft_tokens [Vd]: the target's id of each head row, ascending.
    """

    def __init__(self, config: DraftConfig, embedding: Tensor, draft_tokens: Tensor) -> None:
        super().__init__()
        if embedding.shape[1] != config.width:
            raise ValueError(f"width: expected the target's, {embedding.shape[1]}, found {config.width}")
        self.config = config
        self.register_buffer("embedding", embedding, persistent=False)
        self.register_buffer("draft_tokens", draft_tokens, persistent=False)
        row_of = torch.full((embedding.shape[0],), -1)
        row_of[draft_tokens] = torch.arange(len(draft_tokens))
        self.register_buffer("row_of", row_of, persistent=False)

    def initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and name.rpartition(".")[2] != "head":
                nn.init.xavier_uniform_(module.weight)
                if name.endswith((".o", ".down")):  # blocks begin near the identity
                    module.weight.data *= 0.3

    def readout(self, state: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """What is multiplied with the head's rows in unrolled step `step`, and those rows [Vd, d]."""
        raise NotImplementedError

    def foretold(self, state: Tensor, step: int) -> Tensor:
        """The part of a state that stands for the target's next feature [..., d] in unrolled step `step`."""
        return state

    @property
    def tokens_read(self) -> int:
        return self.config.tokens_read

    def embed(self, tokens: Tensor) -> Tensor:
        """The embeddings of tokens [..., tokens_read], side by side."""
        return functional.embedding(tokens, self.embedding).flatten(-2)

    def logits(self, state: Tensor, step: int) -> Tensor:
        return functional.linear(*self.readout(state, step))


def head_rows(head: Tensor, draft_tokens: Tensor, learns: bool) -> nn.Linear:
    """The rows of the target's head for these tokens."""
    made = nn.Linear(head.shape[1], len(draft_tokens), bias=False)
    made.weight = nn.Parameter(head[draft_tokens].clone(), requires_grad=learns)
    return made


class Draft(DraftBase):
    """A draft of decoder blocks: its output takes the place of the feature in the next step."""

    most_steps = REACH - 1  # that it can be unrolled

    def __init__(self, config: DraftConfig, embedding: Tensor, head: Tensor, draft_tokens: Tensor) -> None:
        super().__init__(config, embedding, draft_tokens)
        width, wide = config.width, 2 if config.family == "eagle3" else 1
        taps = len(config.taps) * width
        if config.family == "dgf":
            self.token_norm = RmsNorm(width, config.norm_epsilon)
            self.dgf = nn.ModuleDict(
                {
                    "w1": nn.Linear(width, width, bias=False),
                    "w2": nn.Linear(width, width, bias=False),
                    "gate": nn.Linear(2 * width, width, bias=False),
                }
            )
        elif config.family == "eagle":
            self.fc = nn.Linear(2 * width, width)
        else:
            self.fc = nn.Linear(taps, width, bias=False)
            self.norm = RmsNorm(width, config.norm_epsilon)
        self.block = nn.ModuleList(
            Block(config, wide if index == 0 else 1, normed=index > 0) for index in range(config.blocks)
        )
        if config.family == "eagle3":
            self.block[0].token_norm = RmsNorm(width, config.norm_epsilon)
            self.block[0].hidden_norm = RmsNorm(width, config.norm_epsilon)
        self.head = head_rows(head, draft_tokens, config.own_head)

    def begin(self, features: Tensor, tokens: Tensor, present: Tensor, start: int) -> tuple[Tensor, list[Seen]]:
        """Rows of true features, all T columns: features [B, T, W], tokens [B, T, 1] (already shifted by one).

        Returns the outputs of columns start.. [B, T - start, d] and what later rows may see.
        """
        state = self.fc(features) if self.config.family == "eagle3" else features
        x, residual = self._enter(state, self.embed(tokens))
        columns = torch.arange(features.shape[1], device=features.device)
        seen: list[Seen] = []
        for index, block in enumerate(self.block):
            if index:
                residual, x = x, block.attn_norm(x)
            seen.append(block.first_keys(x))
            if index == len(self.block) - 1:
                columns, x, residual = columns[start:], x[:, start:], residual[:, start:]
            x = block(x, residual, columns, 0, seen[-1], present)
        return x, seen

    def extend(
        self, state: Tensor, tokens: Tensor, columns: Tensor, step: int, seen: list[Seen], present: Tensor
    ) -> Tensor:
        """Rows of the draft's own outputs `state` [B, C, d] of `columns`, in unrolled step `step` from 1 up."""
        x, residual = self._enter(state, self.embed(tokens))
        for index, block in enumerate(self.block):
            if index:
                residual, x = x, block.attn_norm(x)
            block.show(x, columns, step, seen[index])
            x = block(x, residual, columns, step, seen[index], present)
        return x

    def readout(self, state: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return (self.norm(state) if self.config.family == "eagle3" else state), self.head.weight

    def _enter(self, state: Tensor, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """What enters the first block's attention, and what it is added to."""
        if self.config.family == "dgf":
            h1 = self.dgf["w1"](state)
            h2 = functional.silu(self.dgf["w2"](self.token_norm(embedded)))
            z = torch.sigmoid(self.dgf["gate"](torch.cat([h1, h2], -1)))
            x = z * h1 + (1 - z) * h2
            return x, x
        if self.config.family == "eagle":
            x = self.fc(torch.cat([embedded, state.to(embedded.dtype)], -1))
            return x, x
        first = self.block[0]
        return torch.cat([first.token_norm(embedded), first.hidden_norm(state)], -1), state


def draft_vocabulary(counts: Tensor, size: int) -> Tensor:
    """The `size` most frequent target ids, ascending; of equals the lower id. counts [V]."""
    size = min(size, len(counts))
    order = torch.argsort(-counts, stable=True)[:size]
    return order.sort().values
