"""A batch through a draft, unrolled: each step's rows are made of the outputs of the step before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from forerun.train.data import REACH, Batch
from forerun.train.losses import draft_law_loss, feature_loss, target_law
from forerun.train.models import Draft


@dataclass(frozen=True)
class Objective:
    """What is minimised: sum over unrolled steps s of decay^s (law * cross-entropy + feature * SmoothL1), each a mean
    over the rows that count.

    unroll: steps. thin: share of the columns that go on after the first step (a random choice per batch; 1 keeps all).
    noise: uniform noise of this amplitude on the features (EAGLE-1: 0.1); 0 is none.
    """

    unroll: int = 4
    decay: float = 0.8
    law: float = 1.0
    feature: float = 0.0
    thin: float = 1.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.unroll < REACH:
            raise ValueError(f"unroll: expected 1 to {REACH - 1} steps, found {self.unroll}")
        if not 0 < self.thin <= 1:
            raise ValueError(f"thin: expected a share above 0 and up to 1, found {self.thin}")


def steps(
    draft: Draft, batch: Batch, unroll: int, thin: float = 1.0, noise: float = 0.0
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields (step, columns [C], outputs [B, C, d]) for each unrolled step."""
    features = batch.features
    if noise:
        features = features + (torch.rand_like(features) * 2 - 1) * noise
    every = torch.arange(batch.columns)
    columns = every[batch.start :]
    present = batch.present[:, : batch.columns]
    state, seen = draft.begin(features, batch.inputs(0, every), present, batch.start)
    yield 0, columns, state
    if unroll > 1 and thin < 1:
        count = max(1, round(thin * len(columns)))
        kept = torch.randperm(len(columns))[:count].sort().values
        columns, state = columns[kept], state[:, kept]
    for step in range(1, unroll):
        state = draft.extend(state, batch.inputs(step, columns), columns, step, seen, present)
        yield step, columns, state


def batch_loss(draft: Draft, batch: Batch, objective: Objective) -> tuple[Tensor, list[float]]:
    """The loss to minimise, and the mean cross-entropy of each step."""
    total = torch.zeros(())
    shown = []
    for step, columns, state in steps(draft, batch, objective.unroll, objective.thin, objective.noise):
        _, top_tokens, top_logprobs, counts = batch.wanted(step, columns)
        rows, p, learn = target_law(top_tokens[counts], top_logprobs[counts], draft.row_of)
        chosen = state[counts]
        number = max(1, int(learn.sum()))
        law = draft_law_loss(draft.to_head(chosen[learn]), draft.head.weight, rows[learn], p[learn]) / number
        loss = objective.law * law
        if objective.feature:
            loss = loss + objective.feature * _feature_part(batch, chosen, columns, step, counts)
        total = total + objective.decay**step * loss
        shown.append(law.item())
    return total, shown


def _feature_part(batch: Batch, chosen: Tensor, columns: Tensor, step: int, counts: Tensor) -> Tensor:
    width = chosen.shape[-1]
    ahead = (columns + 1 + step).clamp_max(batch.columns - 1)  # rows past the end do not count
    wanted = batch.features[:, ahead][..., -width:][counts]
    return feature_loss(chosen, wanted) / max(1, len(chosen))
