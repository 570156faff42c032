"""A head that predicts whether the target accepts a drafted token: SpecDec++ (Huang et al., arXiv 2405.19715).

It reads the draft's state after the token, the one that is multiplied with the head's rows. Draft and target stay as
they are. Most tokens of a text are replaced by what the draft would say there, so that it is learnt from what is
accepted as well as from what is not; a branch counts up to its first token that the text does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from forerun.checks import check_count, check_number
from forerun.draft_file import extend_draft
from forerun.train.config import REACH
from forerun.train.data import Batch, aligned, groups, make_batch, split
from forerun.train.drafts import load_draft
from forerun.train.loop import RunFolder, cosine, descend
from forerun.train.models import DraftBase
from forerun.train.progress import Progress
from forerun.train.runs import load_sequences
from forerun.train.target import read_target


@dataclass(frozen=True)
class AcceptancePlan:
    """layers: of the head. depth: of the drafted branches. true_share: of a branch's tokens that stay the text's.
    reject_weight: how much a rejected token counts, an accepted one counting 1. The defaults are the paper's.
    """

    layers: int = 3
    depth: int = 5
    true_share: float = 0.15
    reject_weight: float = 6.0
    epochs: int = 3
    rows: int = 1024
    rate: float = 1e-3
    most_context: int = 256
    validate_every: int = 50
    seed: int = 0
    bf16: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.depth < REACH - 1:
            raise ValueError(f"depth: expected 1 to {REACH - 2}, found {self.depth}")
        if not 0 <= self.true_share < 1:
            raise ValueError(f"true_share: expected a share below 1, found {self.true_share}")
        for name in ("layers", "epochs", "rows", "validate_every"):
            check_count(name, getattr(self, name), low=1, optional=False)
        check_number("rate", self.rate, low=0.0)
        if not 0 < self.reject_weight < math.inf:
            raise ValueError(f"reject_weight: expected a number above 0, found {self.reject_weight}")


class AcceptanceHead(nn.Module):
    """The logit of being accepted, of states [..., d]: layers x + silu(linear x), which begin as nothing, then a row.

    The published code repeats one layer; these are layers of their own.
    """

    def __init__(self, width: int, layers: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.block = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
            self.out = nn.Linear(width, 1)
        for block in self.block:
            nn.init.zeros_(block.weight)
            nn.init.zeros_(block.bias)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = x + functional.silu(block(x))
        return self.out(x).squeeze(-1)

    def tensors(self) -> dict[str, np.ndarray]:
        """By their names in the draft file."""
        return {f"accept.{name}": value.float().numpy() for name, value in self.state_dict().items()}


@torch.no_grad()
def drafted(draft: DraftBase, batch: Batch, depth: int, true_share: float) -> Iterator[tuple[Tensor, Tensor]]:
    """By depth of branches from every row: states [N, d] after drafted tokens, and which were the text's [N]."""
    columns = torch.arange(batch.start, batch.columns)
    present = batch.present[:, : batch.columns]
    tokens = batch.inputs(0, torch.arange(batch.columns), draft.tokens_read)
    state, seen = draft.begin(batch.features, tokens, present, batch.start)
    tokens = tokens[:, columns]
    alive = present[:, columns]
    for step in range(1, min(depth, draft.most_steps - 1) + 1):
        token, _, _, counts = batch.wanted(step - 1, columns)
        law = functional.linear(*draft.readout(state, step - 1)).float().softmax(-1)
        guess = draft.draft_tokens[torch.multinomial(law.flatten(0, 1), 1)].view(token.shape)
        own = torch.rand(token.shape) >= true_share
        chosen = torch.where(own, guess, token)
        tokens = torch.cat([tokens[..., 1:], chosen[..., None]], -1)
        state = draft.extend(state, tokens, columns, step, seen, present)
        learn = alive & counts & own
        hidden, _ = draft.readout(state, step)
        yield hidden[learn].float(), (chosen == token)[learn].float()
        alive = alive & counts & (chosen == token)


def loss_of(head: AcceptanceHead, states: Tensor, accepted: Tensor, reject_weight: float) -> tuple[Tensor, float]:
    """The weighted cross-entropy, twice: to learn from and to show."""
    weight = torch.where(accepted > 0, 1.0, reject_weight)
    loss = functional.binary_cross_entropy_with_logits(head(states).float(), accepted, weight)
    return loss, loss.item()


def ranking(scores: Tensor, accepted: Tensor) -> float:
    """How often an accepted token scores above a rejected one (the area under the ROC curve); 0.5 without either."""
    positive, negative = int(accepted.sum()), int((1 - accepted).sum())
    if not positive or not negative:
        return 0.5
    ranks = torch.empty_like(scores, dtype=torch.float64)
    ranks[scores.argsort()] = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    return float((ranks[accepted > 0].sum() - positive * (positive + 1) / 2) / (positive * negative))


def train_acceptance(
    target: Path,
    shards: Path,
    source: Path,
    file: Path,
    folder: Path,
    plan: AcceptancePlan,
    held_out: int,
    weights: str,
) -> dict:
    """Trains a head for the draft file `source`, or goes on in `folder`, and writes `file`, the draft with the head of
    the best validation; returns that validation. One seed, one file.

    Raises ValueError for medusa and falcon, whose states do not know the token, for kangaroo, and for what `load_draft`
    refuses.
    """
    draft = load_draft(source, read_target(target)).eval()
    if draft.config.family in ("medusa", "falcon"):
        raise ValueError(
            f"{source}: {draft.config.family}: its states do not know the drafted token, so nothing can be said of it"
        )
    if draft.config.family == "kangaroo":
        raise ValueError(f"{source}: kangaroo: what it says of drafted tokens needs the target's layers over them")
    train, validation = split(load_sequences(shards, draft.config.taps), held_out)
    run = RunFolder(folder, {"draft": draft.config, "plan": plan, "texts": len(train)})
    head = AcceptanceHead(draft.config.head_inputs, plan.layers, plan.seed)
    optimiser = torch.optim.AdamW(head.parameters(), lr=plan.rate, weight_decay=0.01)
    step, best = 0, float("inf")
    if state := run.resume():
        step, best = state["step"], state["best"]
        head.load_state_dict(state["head"])
        optimiser.load_state_dict(state["optimiser"])
    fixed = _examples(draft, aligned(validation, plan.most_context), plan)
    todo = [group for epoch in range(plan.epochs) for group in groups(train, plan.rows, plan.seed, epoch)]
    total = len(todo)
    progress = Progress("steps", total - step, "tokens")
    for group in todo[step:]:
        torch.manual_seed(plan.seed * 1_000_003 + step)
        batch = make_batch(group, plan.most_context)
        states, accepted = _joined(drafted(draft, batch, plan.depth, plan.true_share))
        step += 1
        factor = min(1.0, step / (0.03 * total)) * cosine(step / total, 0.01)
        learn = partial(loss_of, head, states, accepted, plan.reject_weight)
        shown = descend(head, [(optimiser, plan.rate)], factor, learn, plan.bf16) if len(states) else 0.0
        progress.step(len(states), f"loss {shown:.3f}")
        if step % plan.validate_every and step != total:
            continue
        entry = {"step": step, "of": total, "train": shown, **validate(head.eval(), *fixed, plan.reject_weight)}
        if entry["loss"] < best:
            best = entry["loss"]
            run.write("best.pt", head.state_dict())
        run.add(entry)
        run.save(step, best=best, head=head.state_dict(), optimiser=optimiser.state_dict())
    head.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    extend_draft(source, file, head.tensors(), weights=weights)
    return min(run.log(), key=lambda entry: entry["loss"])


@torch.no_grad()
def validate(head: AcceptanceHead, states: Tensor, accepted: Tensor, reject_weight: float) -> dict[str, float]:
    """loss: as learnt from. ranking: see there. accepted: share of the drafted tokens. tokens: how many they were."""
    return {
        "loss": loss_of(head, states, accepted, reject_weight)[1],
        "ranking": ranking(head(states), accepted),
        "accepted": float(accepted.mean()),
        "tokens": len(accepted),
    }


def _examples(draft: DraftBase, found: list[Batch], plan: AcceptancePlan) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        examples = _joined(part for batch in found for part in drafted(draft, batch, plan.depth, plan.true_share))
    if not len(examples[0]):
        raise ValueError("no drafted token is left for validation: collect more texts, or hold out more of them")
    return examples


def _joined(parts: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    states, accepted = zip(*parts, strict=True)
    return torch.cat(states), torch.cat(accepted)
