"""The training loop: batches, optimiser, checkpoints, validation, early stopping.

On a CPU a run with a seed is repeatable to the bit, on one thread count, also when it was stopped and resumed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn

from forerun.checks import check_count, check_number
from forerun.train.data import Batch, aligned, groups, make_batch
from forerun.train.evaluate import Validation, evaluate
from forerun.train.loop import Rated, RunFolder, cosine, descend
from forerun.train.models import DraftBase
from forerun.train.muon import BlockMuon
from forerun.train.processes import Processes
from forerun.train.progress import Progress
from forerun.train.rounding import rounded
from forerun.train.shards import Sequence
from forerun.train.unroll import Objective, batch_loss


@dataclass(frozen=True)
class Schedule:
    """rows: rows to learn from in a batch. rate: peak learning rate of the matrices (Muon), `fine_rate` of the rest
    (AdamW). warm_up: share of all steps; then the rate falls by a cosine to `floor` of its peak. most_context: tokens
    before an answer that a row may see, 0 all. weights: of the file to come, whose rounding is trained with if it is
    coarse. patience: validations without progress before it stops, 0 never stops.
    """

    epochs: int = 4
    rows: int = 2048
    rate: float = 0.01
    fine_rate: float = 0.001
    weight_decay: float = 0.01
    warm_up: float = 0.03
    floor: float = 0.05
    clip: float = 1.0
    most_context: int = 256
    validate_every: int = 100
    weights: str = "q8_0"
    checkpoint_minutes: float = 3.0
    patience: int = 0
    seed: int = 0
    bf16: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "rows", "validate_every"):
            check_count(name, getattr(self, name), low=1, optional=False)
        check_count("patience", self.patience, low=0, optional=False)
        for name in ("rate", "fine_rate"):
            check_number(name, getattr(self, name), low=0.0)
        check_number("floor", self.floor, low=0.0, high=1.0)


class _Learner(nn.Module):
    """What processes that train together call: the loss of a batch."""

    def __init__(self, draft: DraftBase, objective: Objective) -> None:
        super().__init__()
        self.draft, self.objective = draft, objective

    def forward(self, batch: Batch, done: float) -> tuple[Tensor, list[float]]:
        return batch_loss(self.draft, batch, self.objective, done)


class Trainer:
    """Trains a draft in `folder`: state.pt to go on from, best.pt (the draft of the best validation), log.jsonl.

    Several processes each learn from batches of their own, the slopes averaged; the main one validates and writes, so
    that `folder` lies where all of them can read it.

    Raises ValueError when `folder` holds a run of other settings.
    """

    def __init__(
        self,
        draft: DraftBase,
        train: list[Sequence],
        held_out: list[Sequence],
        objective: Objective,
        schedule: Schedule,
        folder: Path,
        on_best: Callable[[DraftBase], None] | None = None,
        processes: Processes | None = None,
    ) -> None:
        self._on_best = on_best
        self._processes = processes or Processes()
        draft.to(self._processes.device)
        self.draft, self.objective, self.schedule = draft, objective, schedule
        self._train = train
        self._validation = aligned(held_out, schedule.most_context)
        self._optimisers = optimisers(draft, schedule)
        counts = [len(self._groups(epoch)) for epoch in range(schedule.epochs)]
        if not min(counts):
            raise ValueError(f"rows: {self._processes.count} processes, and less batches of {schedule.rows} rows")
        self._begins = [0, *accumulate(counts)]  # the steps at which epochs begin
        self._total = self._begins[-1]
        self._step = 0
        self._best = -math.inf
        self._stale = 0
        settings = {"draft": draft.config, "objective": objective, "schedule": schedule, "texts": len(train)}
        if self._processes.count > 1:
            settings["processes"] = self._processes.count
        self._folder = RunFolder(folder, settings, self._processes.is_main)
        self._resume()
        self._learner = self._processes.share(_Learner(draft, objective))

    @property
    def best(self) -> float:
        """The best validation score so far: tokens per step with a tree of 8 nodes."""
        return self._best

    def run(self, until: float | None = None) -> bool:
        """Trains to the end, or to the time `until` (of time.monotonic); returns whether it has ended."""
        progress = Progress("steps", self._total - self._step, "rows")
        saved = time.monotonic()
        for epoch, begin in enumerate(self._begins[:-1]):
            for group in self._groups(epoch)[max(0, self._step - begin) :]:
                batch = make_batch(group, self.schedule.most_context)
                shown = self._update(batch)
                if self._processes.is_main:
                    progress.step(int(batch.present[:, batch.start + 2 :].sum()), f"loss {shown[0]:.3f}")
                ended = self._step == self._total
                if self._step % self.schedule.validate_every == 0 or ended:
                    self._validate(shown)
                    if 0 < self.schedule.patience <= self._stale:
                        return True
                out_of_time = until is not None and self._processes.agreed(time.monotonic() > until)
                if ended or out_of_time or time.monotonic() - saved > 60 * self.schedule.checkpoint_minutes:
                    self._save()
                    saved = time.monotonic()
                if out_of_time:
                    return ended
        return True

    def _groups(self, epoch: int) -> list[list[Sequence]]:
        part = (self._processes.index, self._processes.count)
        return groups(self._train, self.schedule.rows, self.schedule.seed, epoch, part)

    def _update(self, batch: Batch) -> list[float]:
        torch.manual_seed((hash((self.schedule.seed, self._step)) + self._processes.index) % 2**31)
        factor = _factor(self._step / self._total, self.schedule)
        loss_of = partial(self._learner, batch.to(self._processes.device), self._step / self._total)
        seen = rounded(self.draft, self.schedule.weights)
        shown = descend(self.draft, self._optimisers, factor, loss_of, self.schedule.bf16, self.schedule.clip, seen)
        self._step += 1
        return shown

    def _validate(self, shown: list[float]) -> None:
        if self._processes.is_main:
            self._score(shown)
        self._best, self._stale = self._processes.agreed((self._best, self._stale))

    def _score(self, shown: list[float]) -> None:
        found = self.validate()
        score = found.tree_tau.get(8, found.chain_tau)
        self._stale = 0 if score > self._best else self._stale + 1
        if score > self._best:
            self._best = score
            self._folder.write("best.pt", self.draft.state_dict())
            if self._on_best is not None:
                self._on_best(self.draft)
        self._folder.add({"step": self._step, "of": self._total, "train": shown, "score": score, **asdict(found)})
        print(f"step {self._step}/{self._total}: {found}", flush=True)

    def validate(self) -> Validation:
        self.draft.eval()
        device = self._processes.device
        bf16 = torch.autocast(device.type, torch.bfloat16, enabled=self.schedule.bf16)
        with rounded(self.draft, self.schedule.weights), bf16:
            return evaluate(self.draft, (batch.to(device) for batch in self._validation))

    def _save(self) -> None:
        self._folder.save(
            self._step,
            best=self._best,
            stale=self._stale,
            draft=self.draft.state_dict(),
            optimisers=[optimiser.state_dict() for optimiser, _ in self._optimisers],
        )

    def _resume(self) -> None:
        state = self._folder.resume()
        if state is None:
            return
        self._step, self._best, self._stale = state["step"], state["best"], state["stale"]
        self.draft.load_state_dict(state["draft"])
        for (optimiser, _), held in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(held)


def optimisers(draft: DraftBase, schedule: Schedule) -> list[Rated]:
    """Muon by blocks for the matrices between hidden states, AdamW for the head, norms and biases."""
    matrices, rest = [], []
    for name, parameter in draft.named_parameters():
        if parameter.requires_grad:
            (matrices if parameter.ndim == 2 and not name.endswith("head.weight") else rest).append(parameter)
    decay = schedule.weight_decay
    found: list[Rated] = [(BlockMuon(matrices, schedule.rate, decay), schedule.rate)]
    if rest:
        adam = torch.optim.AdamW(rest, lr=schedule.fine_rate, betas=(0.9, 0.95), weight_decay=0.0)
        found.append((adam, schedule.fine_rate))
    return found


def _factor(done: float, schedule: Schedule) -> float:
    warm_up = schedule.warm_up
    if done < warm_up:
        return max(done / warm_up, 0.01)
    return cosine((done - warm_up) / (1 - warm_up), schedule.floor)
