"""Prompts that the target makes up itself: Magpie (arXiv 2406.08464).

A chat model that is given nothing but its template up to the user's message writes a message of its own, drawn from
what its users asked when it was trained. So these prompts are as varied as what the model knows how to answer, and no
data set is needed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from forerun.train.answers import Asked, completions
from forerun.train.progress import Progress
from forerun.train.prompts import Prompt, answered_at
from forerun.train.records import appended_records, read_records

if TYPE_CHECKING:
    from forerun.engine import Engine

KIND = "own"
_MARK = "\ue000"  # of the private use area, so that no template holds it
_MOST_TOKENS = 160
_SAMPLING = {"temperature": 1.0, "top_p": 0.95}


def own_prompts(engine: Engine, path: Path, count: int, seed: int = 0, batch: int = 16) -> list[Prompt]:
    """Prompts number 0 to `count` as `invent` gives them, kept in the file `path`: those that it holds are not made
    again.
    """
    held = [Prompt(**record) for record in read_records(path)]
    with appended_records(path) as write:
        for prompt in invent(engine, held[-1].index + 1 if held else 0, count, seed, batch):
            write(prompt)
            held.append(prompt)
    return [prompt for prompt in held if prompt.index < count]


def invent(engine: Engine, first: int, count: int, seed: int = 0, batch: int = 16) -> Iterator[Prompt]:
    """Prompts number `first` to `count`, in order; those that did not end within 160 tokens are left out (with
    SmolLM2-135M a tenth), so that numbers are missing. Greedy answers are asked for as in `compose`.

    Raises ValueError when the model has no chat template, or one that does not show the user's message.
    """
    opening = engine.encode(_opening(engine), add_special=False)
    progress = Progress("prompts", count - first, "tokens")

    def asked() -> Iterator[Asked[tuple[int, random.Random]]]:
        for index in range(first, count):
            pick = random.Random(f"{seed}/{KIND}/{index}")
            yield (
                (index, pick),
                opening,
                {
                    "max_tokens": _MOST_TOKENS,
                    "sampling": _SAMPLING,
                    "seed": pick.randrange(2**31),
                },
            )

    for (index, pick), _, completion in completions(engine, asked(), 2 * batch):
        progress.step(len(completion.tokens))
        text = completion.text.strip()
        if completion.finish_reason == "stop" and text:
            yield Prompt(index, KIND, text, answered_at(pick), pick.randrange(2**31))


def _opening(engine: Engine) -> str:
    """The template's text before the user's message."""
    before, mark, _ = engine.render([{"role": "user", "content": _MARK}]).partition(_MARK)
    if not mark:
        raise ValueError("the chat template does not show the user's message, so the model cannot write one")
    return before
