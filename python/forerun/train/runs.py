"""A training run from shards to a draft: what `forerun train draft` does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from forerun.checks import check_count, check_number
from forerun.train.config import FINAL, IN_TENSORS, STACKED, DraftConfig
from forerun.train.data import split
from forerun.train.drafts import load_draft, make_draft
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

    def __post_init__(self) -> None:
        check_count("draft_vocab", self.draft_vocab, low=1, optional=False)
        if self.ffn_width < 0 or self.ffn_width % 32:
            raise ValueError(f"ffn_width: expected a multiple of 32 (a block of weights), found {self.ffn_width}")

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


class Origin(NamedTuple):
    """What a run begins from: a state dict, and the target's ids of the head's rows."""

    weights: dict[str, torch.Tensor]
    vocabulary: torch.Tensor


def read_origin(start: Path, target: TargetParts, shape: Shape) -> Origin:
    """The best draft of a run's folder, or the one of a draft file, with the weights as the runtime reads them.

    Raises ValueError for a draft of another shape; only a head of its own may be new. ModelFileError as `load_draft`.
    """
    if start.is_dir():
        if not (start / "best.pt").exists():
            raise ValueError(f"{start}: no best.pt; expected the folder of a run that was validated, or a draft file")
        found = DraftConfig(**json.loads((start / "settings.json").read_text(encoding="utf-8"))["draft"])
        weights = torch.load(start / "best.pt", weights_only=True, map_location="cpu")
        vocabulary = torch.load(start / _VOCABULARY, weights_only=True)
    else:
        draft = load_draft(start, target)
        found, weights, vocabulary = draft.config, draft.state_dict(), draft.draft_tokens
    held, wanted = _described(found), _described(shape.of(target))
    differ = [name for name in wanted if held[name] != wanted[name]]
    if wanted["own_head"] and "own_head" in differ:  # it begins as the target's rows
        differ.remove("own_head")
    if differ:
        ours, theirs = (", ".join(f"{name} {one[name]}" for name in differ) for one in (wanted, held))
        raise ValueError(f"{start}: its draft has {theirs}, not {ours}; ask for the same shape")
    return Origin(weights, vocabulary)


def _described(config: DraftConfig) -> dict[str, Any]:
    """All that makes the graph: what the file says, and what its tensors do."""
    return {**config.metadata(), **{name: getattr(config, name) for name in IN_TENSORS}}


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
    start: the folder of an earlier run of this shape, or a draft file, to begin from; its vocabulary is kept too.
    on_best: called in the main one of `processes`.

    Raises ValueError where what is asked for does not fit together, ModelFileError for a malformed `start`.
    """
    check_number("hours", hours, low=0.0)
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
    origin = None if start is None else read_origin(start, target, shape)
    vocabulary = None
    if processes.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / _VOCABULARY).exists():
            vocabulary = torch.load(folder / _VOCABULARY, weights_only=True)
        elif origin is not None:
            vocabulary = origin.vocabulary
        else:
            vocabulary = draft_vocabulary(token_counts(train, target.vocab), shape.of(target).draft_vocab)
        torch.save(vocabulary, folder / _VOCABULARY)
    vocabulary = processes.agreed(vocabulary)
    draft = new_draft(shape, target, vocabulary, schedule.seed)
    if origin is not None:
        draft.load_state_dict(origin.weights)
    notify = None if on_best is None else lambda best: on_best(best, target)
    trainer = Trainer(draft, train, validation, objective, schedule, folder, notify, processes)
    trainer.run(time.monotonic() + 3600 * hours if hours else None)
    best = folder / "best.pt"
    if best.exists():
        draft.load_state_dict(torch.load(best, weights_only=True, map_location="cpu"))
    return draft
