"""Distillation of stand-alone drafts: DistillSpec (Zhou et al., arXiv 2310.08461), after FastDraft's pre-training
(Zafrir et al., arXiv 2411.11055) where that is wanted: the loss `text` on plain text, then a divergence on answers.
Of a draft with several exits each one learns, the losses summed (sorted fine-tuning, Kavehzadeh et al., arXiv
2309.08968).

The target tells its k likeliest tokens at each position; all others count as one more outcome, on both sides. So
every divergence here is at most the one over the whole vocabulary, and equals it where k covers the law.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from forerun.checks import check_count, check_number
from forerun.train.collect import look
from forerun.train.data import Batch, make_batch
from forerun.train.loop import RunFolder, cosine, descend
from forerun.train.progress import Progress
from forerun.train.shards import Sequence
from forerun.train.students import Student
from forerun.train.texts import Text

if TYPE_CHECKING:
    from forerun.engine import Engine

DIVERGENCES = ("forward", "reverse", "jsd", "tvd")
LOSSES = ("text", *DIVERGENCES)
_TINY = 1e-8


def divergence(kind: str, logits: Tensor, top_tokens: Tensor, top_logprobs: Tensor) -> Tensor:
    """Of the target's law p from the draft's q, by row [R]: "forward" KL(p | q), "reverse" KL(q | p), "jsd" (half and
    half), "tvd" (1 minus the probability that a sampled guess is accepted). logits [R, V], the others [R, k].
    """
    p = _with_rest(top_logprobs.float().exp())
    q = _with_rest(logits.float().log_softmax(-1).gather(-1, top_tokens).exp())
    if kind == "forward":
        return _kl(p, q)
    if kind == "reverse":
        return _kl(q, p)
    if kind == "jsd":
        middle = (p + q) / 2
        return (_kl(p, middle) + _kl(q, middle)) / 2
    if kind == "tvd":
        return (p - q).abs().sum(-1) / 2
    raise ValueError(f"divergence: expected one of {', '.join(DIVERGENCES)}, found {kind!r}")


def _with_rest(p: Tensor) -> Tensor:
    return torch.cat([p, (1 - p.sum(-1, keepdim=True)).clamp_min(0)], -1)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.clamp_min(_TINY).log() - q.clamp_min(_TINY).log())).sum(-1)


@dataclass(frozen=True)
class Distillation:
    """loss: one of LOSSES. own: share of the batches whose answers the draft itself writes, which the target then
    scores (on-policy), at `temperature`, `most_own` tokens long. rows: about so many tokens to learn from in a batch.
    """

    loss: str = "forward"
    steps: int = 1000
    rows: int = 2048
    rate: float = 1e-3
    own: float = 0.0
    temperature: float = 1.0
    most_own: int = 64
    validate_every: int = 100
    seed: int = 0
    bf16: bool = True

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, found {self.loss!r}")
        if not 0 <= self.own <= 1 or (self.own and self.loss == "text"):
            raise ValueError(f"own: expected a share from 0 to 1, and 0 with the loss 'text', found {self.own}")
        for name in ("steps", "rows", "validate_every"):
            check_count(name, getattr(self, name), low=1, optional=False)
        check_number("rate", self.rate, low=0.0)


Score = Callable[[list[int], int], Sequence]  # the target's look at tokens, the first `int` of them a prompt


def scorer(engine: Engine, top_k: int) -> Score:
    """The target's look, by the runtime."""

    def score(tokens: list[int], learn_from: int) -> Sequence:
        return look(engine, Text(tokens, learn_from), [], top_k)

    return score


def distill(
    student: Student,
    train: list[Sequence],
    held_out: list[Sequence],
    plan: Distillation,
    folder: Path,
    score: Score | None = None,
    ends: set[int] | None = None,
) -> list[dict]:
    """Trains `student`, or goes on with the run in `folder`; returns its validations, also in log.jsonl.

    score: needed when plan.own is above 0. ends: tokens that end what the draft writes.
    Raises ValueError when `folder` holds a run of other settings.
    """
    if plan.own and score is None:
        raise ValueError("own: what the draft writes has to be scored by the target")
    optimiser = torch.optim.AdamW(student.parameters(), lr=plan.rate, betas=(0.9, 0.95), weight_decay=0.01)
    run = RunFolder(folder, {"student": student.config, "plan": plan, "texts": len(train)})
    begin = 0
    if state := run.resume():
        begin = state["step"]
        student.load_state_dict(state["student"])
        optimiser.load_state_dict(state["optimiser"])
    progress = Progress("steps", plan.steps - begin, "rows")
    for step in range(begin, plan.steps):
        torch.manual_seed(plan.seed * 1_000_003 + step)
        batch = _batch(student, train, plan, step, score, ends or set())
        factor = min(1, (step + 1) / 20) * cosine(step / plan.steps)
        step_loss = partial(loss_of, student, batch, plan.loss)
        loss, rows = descend(student, [(optimiser, plan.rate)], factor, step_loss, plan.bf16)
        progress.step(rows, f"loss {loss:.3f}")
        if (step + 1) % plan.validate_every == 0 or step + 1 == plan.steps:
            run.add({"step": step + 1, "train": loss, **acceptance(student, held_out)})
            run.save(step + 1, student=student.state_dict(), optimiser=optimiser.state_dict())
    return run.log()


@torch.no_grad()
def acceptance(student: Student, held_out: list[Sequence]) -> dict[str, Any]:
    """`sampled`: the mean probability that a sampled guess is accepted, 1 - TVD; `greedy`: the share of likeliest
    tokens that agree; both after all layers. `sampled_by_exit`: the former at each of several exits.
    """
    kept, agreed, count = [0.0] * max(1, len(student.config.exits)), 0, 0
    for sequence in held_out:
        tokens, top, logprobs, counts = _rows(make_batch([sequence]))
        for index, state in enumerate(student.states(tokens)):
            logits = student.logits(state[counts]).float()
            kept[index] += float((1 - divergence("tvd", logits, top[counts], logprobs[counts])).sum())
        agreed += int((logits.argmax(-1) == top[counts][:, 0]).sum())
        count += int(counts.sum())
    sampled = [one / max(1, count) for one in kept]
    found = {"sampled": sampled[-1], "greedy": agreed / max(1, count)}
    return {**found, "sampled_by_exit": sampled} if len(sampled) > 1 else found


def _rows(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens [B, T], the target's laws at each of them, and where a row counts: from the last token of the prompt, as
    far as there are laws.
    """
    columns = batch.columns
    counts = batch.present[:, :columns] & batch.top_logprobs[:, :columns].isfinite().any(-1)
    counts[:, : batch.start] = False
    return batch.tokens[:, :columns], batch.top_tokens[:, :columns], batch.top_logprobs[:, :columns], counts


def loss_of(student: Student, batch: Batch, kind: str) -> tuple[Tensor, tuple[float, int]]:
    """The sum over the exits, and the loss after all layers with its number of rows."""
    tokens, top, logprobs, counts = _rows(batch)
    if kind == "text":
        counts = counts & batch.present[:, 1 : batch.columns + 1]
    wanted = batch.tokens[:, 1 : batch.columns + 1][counts]
    losses = []
    for state in student.states(tokens):
        logits = student.logits(state[counts])
        if kind == "text":
            losses.append(functional.cross_entropy(logits.float(), wanted))
        else:
            losses.append(divergence(kind, logits, top[counts], logprobs[counts]).mean())
    return sum(losses), (losses[-1].item(), len(wanted))


def _batch(
    student: Student, train: list[Sequence], plan: Distillation, step: int, score: Score | None, ends: set[int]
) -> Batch:
    """Texts whose prompts are equally long, since padding stands on the left of a batch and a decoder would see it."""
    pick = random.Random(f"{plan.seed}/{step}")
    first = pick.choice(train)
    near = sorted(pick.sample(train, min(64, len(train))), key=lambda s: abs(len(s.tokens) - len(first.tokens)))
    chosen, learnt = [], 0
    for sequence in [first, *near]:
        if learnt >= plan.rows:
            break
        if sequence.learn_from == first.learn_from:
            chosen.append(sequence)
            learnt += len(sequence.tokens) - sequence.learn_from
    if score is None or pick.random() >= plan.own:
        return make_batch(chosen)
    prompts = [sequence.tokens[: sequence.learn_from].tolist() for sequence in chosen]
    written = student.write(prompts, plan.most_own, plan.temperature, ends)
    return make_batch([score(tokens, len(prompt)) for tokens, prompt in zip(written, prompts, strict=True)])
