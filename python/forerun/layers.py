"""Which layers of a target may be left out while it drafts for itself (`draft="early-exit"`), and which of a draft
model may have their attention computed side by side (`model.parallel_layers`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forerun.engine import Engine

PROMPTS = (
    "Explain in a few sentences how a bicycle stays upright.",
    "Write a Python function that merges two sorted lists, with a docstring.",
    "Tell me a short story about a lighthouse keeper who finds a letter.",
)


@dataclass(frozen=True)
class LayerChoice:
    """Layers left out, in the order in which they went, and the agreement after each.

    agreement[i]: share of the tokens after which the target without the first i + 1 layers of `skipped` still
    chooses what the whole target chooses, in [0, 1].
    """

    layers: int
    skipped: tuple[int, ...]
    agreement: tuple[float, ...]

    def option(self, count: int | None = None) -> str:
        """The value of the option early-exit.skip for the first `count` skipped layers, such as "8-11,14"."""
        chosen = sorted(self.skipped[:count])
        ranges: list[list[int]] = []
        for layer in chosen:
            if ranges and layer == ranges[-1][1] + 1:
                ranges[-1][1] = layer
            else:
                ranges.append([layer, layer])
        return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges)


def answers(engine: Engine, prompts: Sequence[str] = PROMPTS, max_tokens: int = 96) -> list[list[int]]:
    """Texts to choose by, as tokens: prompts (as a user's, where the model has a chat template) and the target's
    own greedy answers.
    """
    texts = []
    for prompt in prompts:
        if engine.chat_template:
            tokens = engine.encode(engine.render([{"role": "user", "content": prompt}]), add_special=False)
        else:
            tokens = engine.encode(prompt)
        texts.append([*tokens, *engine.generate(tokens, max_tokens=max_tokens).tokens])
    return texts


def choose(
    engine: Engine,
    texts: Sequence[Sequence[int]],
    skip: int,
    progress: Callable[[int, int], None] | None = None,
) -> LayerChoice:
    """Leaves out `skip` layers one after the other, each time the one whose absence changes least.

    texts: token ids to choose by, none longer than the context. progress(done, of): steps of the search.
    Greedy search in place of the Bayesian one of Draft & Verify (arXiv 2309.08168): skip * layers partial
    passes over the texts. Raises ValueError when `skip` leaves no layer.
    """
    layers = engine.info["layers"]
    if not 0 < skip < layers:
        raise ValueError(f"skip is {skip}, expected 1 to {layers - 1}, for a target of {layers} layers")
    kept = list(range(layers))
    skipped: list[int] = []
    agreement: list[float] = []
    total = sum(len(text) for text in texts)
    for done in range(skip):
        sets = [[layer for layer in kept if layer != left_out] for left_out in kept]
        shares = [0.0] * len(sets)
        for text in texts:
            found = engine.layer_agreement(text, sets)
            shares = [share + len(text) * one / total for share, one in zip(shares, found, strict=True)]
        best = max(range(len(kept)), key=shares.__getitem__)
        skipped.append(kept.pop(best))
        agreement.append(shares[best])
        if progress is not None:
            progress(done + 1, skip)
    return LayerChoice(layers, tuple(skipped), tuple(agreement))


def parallel(engine: Engine, texts: Sequence[Sequence[int]], groupings: Sequence[str]) -> list[float]:
    """How well this model agrees with itself when groups of its layers attend side by side (EasySpec, NeurIPS 2025).

    groupings: as the option model.parallel_layers takes them, "4" or "1-4,5-8". texts: token ids, none longer than
    the context. Returns per grouping the share of the tokens, in [0, 1].
    """
    total = sum(len(text) for text in texts)
    shares = [0.0] * len(groupings)
    for text in texts:
        found = engine.parallel_agreement(text, groupings)
        shares = [share + len(text) * one / total for share, one in zip(shares, found, strict=True)]
    return shares
