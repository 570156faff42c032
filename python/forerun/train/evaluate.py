"""How good a draft is on text it has not learnt from, without the runtime.

Each row is unrolled along the true tokens; at each depth the rank of the true next token among the draft's guesses is
noted. A chain accepts while the rank is 0. A static tree is a set of rank paths; the best one of N nodes for a set of
rows holds the N most frequent paths (it is closed under prefixes, since a prefix is at least as frequent), as Medusa's
trees are made (Cai et al., arXiv 2401.10774). So that it is not fitted to what it is scored on, it is made of every
other row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from forerun.train.data import Batch
from forerun.train.models import DraftBase
from forerun.train.unroll import steps


@dataclass(frozen=True)
class Validation:
    """acceptance: by depth, the share of rows, all earlier depths right, whose top guess is the true token.
    agreement: the same without that condition. chain_tau: tokens per step when a greedy chain of that many depths
    walks the texts. tree_tau: tokens per step by static trees of so many nodes. covered: share of true tokens that
    the draft's vocabulary has. rows: how many were scored.
    """

    acceptance: list[float]
    agreement: list[float]
    chain_tau: float
    tree_tau: dict[int, float]
    covered: float
    rows: int

    def __str__(self) -> str:
        depths = " ".join(f"{share:.3f}" for share in self.acceptance)
        trees = ", ".join(f"{tau:.3f} with {nodes} nodes" for nodes, tau in self.tree_tau.items())
        return f"acceptance {depths}; tau {self.chain_tau:.3f} as a chain, {trees}; {self.rows:,} rows"


def evaluate(
    draft: DraftBase, batches: Iterable[Batch], depth: int = 5, nodes: tuple[int, ...] = (4, 8, 16)
) -> Validation:
    """Scores a draft, as deep as it goes; ranks of 16 and more count as never guessed."""
    depth = min(depth, draft.most_steps)
    paths: list[list[int]] = []
    walks: list[int] = []
    covered = torch.zeros(2)
    with torch.no_grad():
        for batch in batches:
            ranks, known = _ranks(draft, batch, depth)
            covered += known
            for row in ranks:
                alive = row[row[:, 0] != _PAST].tolist()
                paths += alive
                walks += _walk(alive)
    return _summary(paths, walks, depth, nodes, float(covered[0] / covered[1].clamp_min(1)))


_PAST = -1  # beyond the end of the text
_NEVER = 16


def _ranks(draft: DraftBase, batch: Batch, depth: int) -> tuple[Tensor, Tensor]:
    """Rank of the true token [B, C, depth], and how many true tokens of the first depth are known, of how many."""
    ranks = []
    known = torch.zeros(2)
    for step, columns, state in steps(draft, batch, depth):
        token, _, _, counts = batch.wanted(step, columns)
        row = draft.row_of[token]
        rank = torch.full(token.shape, _PAST, device=token.device)
        with torch.autocast(state.device.type, enabled=False):
            logits = draft.logits(state[counts].float(), step)
        own = logits.gather(1, row[counts].clamp_min(0)[:, None])
        place = (logits > own).sum(-1).clamp_max(_NEVER)
        place = torch.where(own[:, 0].isfinite(), place, _NEVER)  # nothing is larger than NaN
        rank[counts] = torch.where(row[counts] >= 0, place, _NEVER)
        ranks.append(rank)
        if step == 0:
            known = torch.tensor([(row[counts] >= 0).sum(), counts.sum()], dtype=torch.float32)
    return torch.stack(ranks, -1), known


def _run(row: list[int]) -> int:
    """Leading zeros: how many tokens of a greedy chain are accepted."""
    return next((depth for depth, rank in enumerate(row) if rank != 0), len(row))


def _walk(rows: list[list[int]]) -> list[int]:
    """Accepted tokens of each step when a text is decoded from its first row to its last."""
    at, runs = 0, []
    while at < len(rows):
        runs.append(_run(rows[at]))
        at += runs[-1] + 1
    return runs


def _summary(
    paths: list[list[int]], walks: list[int], depth: int, nodes: tuple[int, ...], covered: float
) -> Validation:
    acceptance, agreement = [], []
    for at in range(depth):
        there = [row for row in paths if row[at] != _PAST]
        reached = [row for row in there if _run(row) >= at]
        acceptance.append(sum(row[at] == 0 for row in reached) / max(1, len(reached)))
        agreement.append(sum(row[at] == 0 for row in there) / max(1, len(there)))
    tree_tau = {}
    made_of, scored = _prefixes(paths[::2]), _prefixes(paths[1::2])
    for count in nodes:
        tree = [path for path, _ in made_of.most_common(count)]
        tree_tau[count] = 1 + sum(scored[path] for path in tree) / max(1, len(paths[1::2]))
    chain = 1 + sum(walks) / max(1, len(walks))
    return Validation(acceptance, agreement, chain, tree_tau, covered, len(paths))


def _prefixes(paths: list[list[int]]) -> Counter[tuple[int, ...]]:
    counts: Counter[tuple[int, ...]] = Counter()
    for row in paths:
        for length in range(1, len(row) + 1):
            if row[length - 1] in (_PAST, _NEVER):
                break
            counts[tuple(row[:length])] += 1
    return counts
