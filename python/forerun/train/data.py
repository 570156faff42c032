"""Sequences as batches for training.

The shift, in one place. Row c of a draft takes the feature of token c and the embedding of token c + 1, which the
target has already chosen, and predicts token c + 2, whose distribution the target showed at token c + 1. In unrolled
step s the same row takes its own last output and the embedding of token c + 1 + s, and predicts token c + 2 + s.

The sequences of a batch are aligned at the first token to be predicted: context lies left of it, padded in front.
So one slice of columns holds the rows to learn from, and rotary positions may count columns, since only their
differences matter.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from forerun.train.config import REACH
from forerun.train.shards import Sequence

Item = TypeVar("Item")


@dataclass
class Batch:
    """B sequences over T columns, the first row to learn from in column `start`.

    tokens [B, T + reach], features [B, T, W], top_tokens and top_logprobs [B, T + reach, k] (reach: columns of padding
    so that unrolled steps can look ahead), present [B, T + reach]: where a token is.
    """

    tokens: torch.Tensor
    features: torch.Tensor
    top_tokens: torch.Tensor
    top_logprobs: torch.Tensor
    present: torch.Tensor
    start: int

    @property
    def columns(self) -> int:
        return self.features.shape[1]

    def to(self, device: torch.device) -> Batch:
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **tensors)

    def inputs(self, step: int, columns: torch.Tensor, tokens_read: int = 1) -> torch.Tensor:
        """The tokens [B, C, tokens_read] whose embeddings enter rows `columns` in unrolled step `step`, their own last.
        Before its beginning a text is taken for its first token.
        """
        found = [self.tokens[:, columns + 1 + step]]
        for back in range(1, tokens_read):
            at = columns + 1 + step - back
            there = self.present[:, at.clamp_min(0)] & (at >= 0)
            found.append(torch.where(there, self.tokens[:, at.clamp_min(0)], found[-1]))
        return torch.stack(found[::-1], -1)

    def wanted(self, step: int, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """What those rows are to predict: token [B, C], the target's top tokens and log-probabilities [B, C, k],
        and which rows count [B, C].
        """
        ahead = columns + 1 + step
        counts = self.present[:, ahead + 1] & self.present[:, columns]
        return self.tokens[:, ahead + 1], self.top_tokens[:, ahead], self.top_logprobs[:, ahead], counts


def make_batch(sequences: list[Sequence], most_context: int = 0) -> Batch:
    """Aligns sequences. most_context: keep so many tokens before the first to be predicted; 0 keeps all."""
    if not sequences:
        raise ValueError("a batch needs at least one sequence")
    cuts = [max(0, s.learn_from - most_context) if most_context else 0 for s in sequences]
    left = max(s.learn_from - cut for s, cut in zip(sequences, cuts, strict=True))
    right = max(len(s.tokens) - s.learn_from for s in sequences)
    count, columns, top = len(sequences), left + right, sequences[0].top_tokens.shape[1]
    tokens = np.zeros((count, columns + REACH), np.int64)
    features = np.zeros((count, columns, sequences[0].features.shape[1]), np.float32)
    top_tokens = np.zeros((count, columns + REACH, top), np.int64)
    top_logprobs = np.full((count, columns + REACH, top), -np.inf, np.float32)
    present = np.zeros((count, columns + REACH), bool)
    for row, (sequence, cut) in enumerate(zip(sequences, cuts, strict=True)):
        begin = left - (sequence.learn_from - cut)
        place = slice(begin, begin + len(sequence.tokens) - cut)
        tokens[row, place] = sequence.tokens[cut:]
        features[row, place] = sequence.features[cut:]
        top_tokens[row, place] = sequence.top_tokens[cut:]
        top_logprobs[row, place] = sequence.top_logprobs[cut:]
        present[row, place] = True
    arrays = (torch.from_numpy(array) for array in (tokens, features, top_tokens, top_logprobs, present))
    return Batch(*arrays, start=left - 1)


def aligned(sequences: list[Sequence], most_context: int, size: int = 16) -> list[Batch]:
    """All of them in their order, `size` at a time."""
    return [make_batch(sequences[at : at + size], most_context) for at in range(0, len(sequences), size)]


def split(sequences: list[Item], held_out: int) -> tuple[list[Item], list[Item]]:
    """Training and validation: every `held_out`-th sequence is held out."""
    if held_out < 2:
        raise ValueError(f"held_out: expected 2 or more (every so many-th sequence is held out), found {held_out}")
    kept = [s for index, s in enumerate(sequences) if index % held_out != held_out - 1]
    if len(kept) == len(sequences):
        raise ValueError(
            f"held_out: of {len(sequences)} texts none is left for validation; collect more, or give at most "
            f"{len(sequences)} (every so many-th text is held out)"
        )
    return kept, sequences[held_out - 1 :: held_out]


def groups(
    sequences: list[Sequence], rows: int, seed: int, epoch: int, part: tuple[int, int] = (0, 1)
) -> list[list[Sequence]]:
    """One epoch in random order, in groups of about `rows` rows to learn from, sequences of like length together. How
    many there are differs a little from epoch to epoch.

    part: (i, n) for the i-th of n equal shares; less than n groups are left over.
    """
    order = random.Random(f"{seed}/{epoch}")
    shuffled = sequences[:]
    order.shuffle(shuffled)
    pool = 512  # sorted by length within so many, which keeps padding small and the order random
    found: list[list[Sequence]] = []
    for begin in range(0, len(shuffled), pool):
        group: list[Sequence] = []
        learnt = 0
        for sequence in sorted(shuffled[begin : begin + pool], key=lambda s: len(s.tokens) - s.learn_from):
            group.append(sequence)
            learnt += len(sequence.tokens) - sequence.learn_from
            if learnt >= rows:
                found.append(group)
                group, learnt = [], 0
        if group:
            found.append(group)
    order.shuffle(found)
    index, count = part
    return found[index : len(found) // count * count : count]
