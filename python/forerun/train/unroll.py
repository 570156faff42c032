"""A batch through a draft, unrolled: each step's rows are made of the outputs of the step before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from forerun.checks import check_number
from forerun.train.config import REACH
from forerun.train.data import Batch
from forerun.train.losses import draft_law_loss, feature_loss, target_law
from forerun.train.models import DraftBase


@dataclass(frozen=True)
class Objective:
    """What is minimised: sum over unrolled steps s of decay^s (law * cross-entropy to the target's law + text *
    cross-entropy to the text's own token + feature * SmoothL1), each a mean over the rows that count.

    unroll: steps. thin: share of the columns that go on after the first step (a random choice per batch; 1 keeps all).
    noise: uniform noise of this amplitude on the features (EAGLE-1: 0.1); 0 is none. only_rejected: those rows count
    whose best guess is not the text's token. glance: of the wrong guesses of a first pass, the share for which rows are
    shown what they are to guess (CSGD of Falcon); it falls to nothing in the course of the run.
    """

    unroll: int = 4
    decay: float = 0.8
    law: float = 1.0
    feature: float = 0.0
    thin: float = 1.0
    noise: float = 0.0
    text: float = 0.0
    only_rejected: bool = False
    glance: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.unroll < REACH:
            raise ValueError(f"unroll: expected 1 to {REACH - 1} steps, found {self.unroll}")
        for name in ("decay", "law", "feature", "noise", "text"):
            check_number(name, getattr(self, name), low=0.0)
        if not 0 < self.thin <= 1:
            raise ValueError(f"thin: expected a share above 0 and up to 1, found {self.thin}")
        if not 0 <= self.glance <= 1:
            raise ValueError(f"glance: expected a share from 0 to 1, found {self.glance}")


def steps(
    draft: DraftBase, batch: Batch, unroll: int, thin: float = 1.0, noise: float = 0.0, read: Batch | None = None
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields (step, columns [C], outputs [B, C, d]) for each unrolled step. read: what the text's rows are made of, if
    it is not the batch itself.
    """
    read = read or batch
    features = read.features
    if noise:
        features = features + (torch.rand_like(features) * 2 - 1) * noise
    every = torch.arange(batch.columns, device=features.device)
    columns = every[batch.start :]
    present = batch.present[:, : batch.columns]
    state, seen = draft.begin(features, read.inputs(0, every, draft.tokens_read), present, batch.start)
    yield 0, columns, state
    if unroll > 1 and thin < 1:
        count = max(1, round(thin * len(columns)))
        kept = torch.randperm(len(columns))[:count].sort().values
        columns, state = columns[kept], state[:, kept]
    for step in range(1, unroll):
        tokens = batch.inputs(step, columns, draft.tokens_read)
        state = draft.extend(state, tokens, columns, step, seen, present)
        yield step, columns, state


@torch.no_grad()
def glanced(draft: DraftBase, batch: Batch, share: float) -> Batch:
    """The batch, in which for this share of the wrong guesses rows are those a span later, whose features and tokens
    are what they are to guess: spans at random places (glancing distillation: Gao et al., arXiv 2412.12639).
    """
    span = draft.config.span
    wrong = torch.zeros(len(batch.tokens), device=batch.tokens.device)
    for step, columns, state in steps(draft, batch, span):
        token, _, _, counts = batch.wanted(step, columns)
        wrong += (_rejected(draft, state, step, token) & counts).sum(-1) / span
    columns = torch.arange(batch.start, batch.columns - span, device=wrong.device)
    features, tokens = batch.features.clone(), batch.tokens.clone()
    for row, count in enumerate((share * wrong / span).round().int().tolist()):
        there = columns[batch.present[row, columns] & batch.present[row, columns + span]]
        begins = there[::span][: len(there) // span]
        begins = begins[torch.randperm(len(begins))[:count].to(begins.device)]
        shown = (begins[:, None] + torch.arange(span, device=begins.device)).flatten()
        features[row, shown] = batch.features[row, shown + span]
        tokens[row, shown + 1] = batch.tokens[row, shown + 1 + span]
    return replace(batch, features=features, tokens=tokens)


def batch_loss(draft: DraftBase, batch: Batch, objective: Objective, done: float = 0.0) -> tuple[Tensor, list[float]]:
    """The loss to minimise, and the mean cross-entropy of each step, to the law if that is learnt. done: share of the
    run that is over.
    """
    glance = objective.glance * (1 - done)
    read = glanced(draft, batch, glance) if glance else None
    total = torch.zeros((), device=batch.features.device)
    shown = []
    for step, columns, state in steps(draft, batch, objective.unroll, objective.thin, objective.noise, read):
        token, top_tokens, top_logprobs, counts = batch.wanted(step, columns)
        if objective.only_rejected:
            counts = counts & _rejected(draft, state, step, token)
        chosen = state[counts]
        wanted = []  # rows of the head, their probabilities, which to learn from, how much that counts
        if objective.law or not objective.text:
            wanted.append((*target_law(top_tokens[counts], top_logprobs[counts], draft.row_of), objective.law))
        if objective.text:
            row = draft.row_of[token[counts]]
            certain = torch.ones(len(row), 1, device=row.device)
            wanted.append((row.clamp_min(0)[:, None], certain, row >= 0, objective.text))
        means = []
        for rows, p, learn, _ in wanted:
            hidden, head = draft.readout(chosen[learn], step)
            means.append(draft_law_loss(hidden, head, rows[learn], p[learn]) / max(1, int(learn.sum())))
        loss = sum(weight * mean for (*_, weight), mean in zip(wanted, means, strict=True))
        if objective.feature:
            foretold = draft.foretold(chosen, step)
            loss = loss + objective.feature * _feature_part(batch, foretold, columns, step, counts)
        total = total + objective.decay**step * loss
        shown.append(means[0].item())
    return total, shown


@torch.no_grad()
def _rejected(draft: DraftBase, state: Tensor, step: int, token: Tensor) -> Tensor:
    best = [draft.logits(rows, step).argmax(-1) for rows in state]  # a sequence's logits at a time
    return torch.stack(best) != draft.row_of[token]


def _feature_part(batch: Batch, foretold: Tensor, columns: Tensor, step: int, counts: Tensor) -> Tensor:
    width = foretold.shape[-1]
    ahead = (columns + 1 + step).clamp_max(batch.columns - 1)  # rows past the end do not count
    wanted = batch.features[:, ahead][..., -width:][counts]
    return feature_loss(foretold, wanted) / max(1, len(foretold))
