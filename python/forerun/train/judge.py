"""A head that judges whether a token continues the text correctly, whoever wrote it: judge decoding (Bachmann et al.,
arXiv 2501.19309). LOSSY where it is used: the runtime then keeps tokens that the target would not have written.

It is a row over the target's hidden state of the token, learnt from answers whose wrong parts are marked: a JSONL file
of objects {"prompt": "...", "answer": [["text that is right", true], ["text that is wrong", false], ...]}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from forerun.checks import numbered_lines
from forerun.draft_file import Target, write_draft
from forerun.train.data import split
from forerun.train.progress import Progress

if TYPE_CHECKING:
    from forerun.engine import Engine

_DECAY = 1e-3  # of the weights, over values of variance 1


@dataclass(frozen=True)
class Judged:
    """prompt: rendered. pieces: of the answer, each with whether it is right."""

    prompt: str
    pieces: list[tuple[str, bool]]


def read_judged(path: Path) -> list[Judged]:
    """Raises ValueError naming the line that is not as the module says."""
    found = []
    for number, line in numbered_lines(path):
        try:
            record = json.loads(line)
            pieces = [(text, right) for text, right in record["answer"]]
            fits = isinstance(record["prompt"], str) and all(
                isinstance(text, str) and isinstance(right, bool) for text, right in pieces
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {type(error).__name__}: {error}") from None
        if not fits or not pieces:
            raise ValueError(
                f'{path}, line {number}: expected {{"prompt": text, "answer": [[text, true or false], ...]}}, '
                f"found {line[:80]}"
            )
        found.append(Judged(record["prompt"], pieces))
    return found


def labels(lengths: list[int], pieces: list[tuple[str, bool]]) -> list[bool]:
    """Which tokens are right, of an answer's tokens of so many bytes: those with no byte in a wrong piece."""
    right = [flag for text, flag in pieces for _ in text.encode()]
    at = len(right) - sum(lengths)  # a token may begin with a space that the text does not have
    found = []
    for length in lengths:
        found.append(all(right[max(at, 0) : max(at + length, 0)]))
        at += length
    return found


def examples(engine: Engine, judged: list[Judged]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """By answer: hidden states [n, d] of its tokens, and which are right [n]."""
    progress = Progress("answers", len(judged), "tokens")
    for one in judged:
        prompt = engine.encode(engine.render([{"role": "user", "content": one.prompt}]), add_special=False)
        answer = engine.encode("".join(text for text, _ in one.pieces), add_special=False, parse_special=False)
        states, _, _ = engine.features([*prompt, *answer], taps=[-1], top_k=0)
        progress.step(len(answer))
        lengths = [len(engine.native.token_text(token)) for token in answer]
        yield states[len(prompt) :].astype(np.float32), np.array(labels(lengths, one.pieces), np.float32)


def fit(states: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Weight [d] and bias of the logistic regression in which right and wrong tokens count the same in total."""
    mean, scale = states.mean(0), states.std(0).clamp_min(1e-6)
    scaled = (states - mean) / scale
    count = torch.stack([(1 - right).sum(), right.sum()])
    if (count == 0).any():
        raise ValueError(f"expected right and wrong tokens to learn from, found {int(count[1])} and {int(count[0])}")
    weight = (len(right) / (2 * count))[right.long()]
    row = torch.zeros(states.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([row], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = scaled @ row[:-1] + row[-1]
        total = functional.binary_cross_entropy_with_logits(logits, right, weight)
        total = total + _DECAY * row[:-1].square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    found = row.detach()
    return found[:-1] / scale, (found[-1] - (found[:-1] * mean / scale).sum())[None]


def train_judge(engine: Engine, target: Target, answers: Path, file: Path, held_out: int) -> dict[str, float]:
    """Writes a judge head; returns the shares of right and of wrong tokens that it keeps at a threshold of a half, of
    every `held_out`-th answer, which it has not learnt from.

    Raises ValueError for answers that cannot be learnt from.
    """
    learn, kept = split(list(examples(engine, read_judged(answers))), held_out)
    states, right = (torch.from_numpy(np.concatenate(part)) for part in zip(*learn, strict=True))
    weight, bias = fit(states, right)
    tensors = {"judge.weight": weight.numpy(), "judge.bias": bias.numpy()}
    write_draft(file, target.metadata(), tensors, name=file.stem, kind="judge")
    states, right = (torch.from_numpy(np.concatenate(part)) for part in zip(*kept, strict=True))
    likes = (states @ weight + bias > 0).float()
    return {name: float(likes[right == flag].mean()) for name, flag in (("right", 1), ("wrong", 0))}
