"""A training run from shards to a draft: what `forerun train draft` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from forerun.train.config import FINAL, STACKED, DraftConfig
from forerun.train.data import split
from forerun.train.drafts import make_draft
from forerun.train.models import DraftBase, draft_vocabulary
from forerun.train.processes import Processes
from forerun.train.shards import Sequence, read_shard
from forerun.train.target import TargetParts, read_target
from forerun.train.trainer import Schedule, Trainer
from forerun.train.unroll import Objective

_VOCABULARY = "vocabulary.pt"


@dataclass(frozen=True)
class Shape:
    """What is chosen of a draft; the rest follows from the target. ffn_width 0 takes the target's, and none in
    kangaroo.

    family: one of config.FAMILIES, or "hydra++" for hydra with a block over the text; those of config.STACKED have
    `stacks` stacks of `stack_layers` layers and no other blocks. span: tokens that falcon guesses in one forward.
    """

    family: str = "eagle3"
    blocks: int = 1
    ffn_width: int = 0
    draft_vocab: int = 8192
    own_head: bool = False
    stacks: int = 4
    stack_layers: int = 1
    span: int = 2
    taps: tuple[int, ...] = (FINAL,)

    def of(self, target: TargetParts) -> DraftConfig:
        family = "hydra" if self.family == "hydra++" else self.family
        stacked = family in STACKED
        return DraftConfig(
            family=family,
            width=target.width,
            blocks=int(family != self.family) if stacked else self.blocks,
            heads=target.heads,
            kv_heads=target.kv_heads,
            head_dim=target.head_dim,
            ffn_width=self.ffn_width or (0 if family == "kangaroo" else target.ffn_width),
            norm_epsilon=target.norm_epsilon,
            taps=list(self.taps),
            own_head=self.own_head,
            draft_vocab=min(self.draft_vocab, target.vocab),
            stacks=self.stacks if stacked else 0,
            stack_layers=self.stack_layers,
            span=self.span if family == "falcon" else 1,
        )


def load_sequences(folder: Path, taps: list[int] | None, most: int = 0) -> list[Sequence]:
    """The sequences of all shards of a folder, the first `most` (0: all).

    Raises ValueError when there is none.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{folder}: no shards; make them with `forerun train collect`")
    found: list[Sequence] = []
    for path in paths:
        found += read_shard(path, taps)
        if most and len(found) >= most:
            return found[:most]
    return found


def token_counts(sequences: list[Sequence], vocab: int) -> torch.Tensor:
    """How often each token is to be predicted."""
    counts = np.zeros(vocab, np.int64)
    for sequence in sequences:
        counts += np.bincount(sequence.tokens[sequence.learn_from :], minlength=vocab)
    return torch.from_numpy(counts)


def new_draft(shape: Shape, target: TargetParts, vocabulary: torch.Tensor, seed: int) -> DraftBase:
    """An untrained draft that can say the tokens of `vocabulary`."""
    config = shape.of(target)
    draft = make_draft(config, torch.from_numpy(target.embedding), torch.from_numpy(target.head), vocabulary, seed)
    if config.family in ("eagle3", "kangaroo"):  # the rows of the target's head expect the target's norm before them
        draft.norm.weight.data.copy_(torch.from_numpy(target.norm))
    return draft


def train_draft(
    target_path: Path,
    shards: Path,
    folder: Path,
    shape: Shape,
    objective: Objective,
    schedule: Schedule,
    held_out: int = 25,
    most_texts: int = 0,
    hours: float = 0.0,
    start: Path | None = None,
    on_best: Callable[[DraftBase, TargetParts], None] | None = None,
    processes: Processes | None = None,
) -> DraftBase:
    """Trains, or goes on training, in `folder`, and returns the draft of the best validation.

    held_out: every so many-th text is for validation. hours: stop after this long, to be gone on with; 0 never.
    start: the folder of an earlier run of this shape to begin from; its vocabulary is kept too. on_best: called in the
    main one of `processes`.
    """
    processes = processes or Processes()
    target = read_target(target_path)
    steps = shape.of(target).fixed_unroll
    if steps and (objective.unroll != steps or objective.feature):
        raise ValueError(
            f"unroll and feature: this {shape.family} learns from {steps} steps, and predicts no features; "
            f"found {objective.unroll} and {objective.feature}"
        )
    if objective.glance and shape.family != "falcon":
        raise ValueError(f"glance: falcon learns so, found {objective.glance} with {shape.family}")
    train, validation = split(load_sequences(shards, list(shape.taps), most_texts), held_out)
    vocabulary = None
    if processes.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        held = [source / _VOCABULARY for source in (folder, start) if source and (source / _VOCABULARY).exists()]
        if held:
            vocabulary = torch.load(held[0], weights_only=True)
        else:
            vocabulary = draft_vocabulary(token_counts(train, target.vocab), shape.of(target).draft_vocab)
        torch.save(vocabulary, folder / _VOCABULARY)
    vocabulary = processes.agreed(vocabulary)
    draft = new_draft(shape, target, vocabulary, schedule.seed)
    if start is not None:
        draft.load_state_dict(torch.load(start / "best.pt", weights_only=True, map_location="cpu"))
    notify = None if on_best is None else lambda best: on_best(best, target)
    trainer = Trainer(draft, train, validation, objective, schedule, folder, notify, processes)
    trainer.run(time.monotonic() + 3600 * hours if hours else None)
    best = folder / "best.pt"
    if best.exists():
        draft.load_state_dict(torch.load(best, weights_only=True, map_location="cpu"))
    return draft
