"""The target's own answers to prompts: what a draft for it should learn to predict.

Answers go into a JSONL file, one a line, as token ids with the chat template's tokens around them. The file is the
state: a run that was stopped goes on where it ended.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forerun.train.progress import Progress

if TYPE_CHECKING:
    from forerun.engine import Engine
    from forerun.request import Request
    from forerun.train.prompts import Prompt


@dataclass(frozen=True)
class Answer:
    """tokens: the rendered prompt, then the answer, with its end token where it ended by itself.
    prompt_length: how many of them are the prompt.
    """

    index: int
    kind: str
    temperature: float
    prompt_length: int
    tokens: list[int]


def read_answers(path: Path) -> Iterator[Answer]:
    """The answers of a file; a last line that was cut off is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield Answer(**json.loads(line))


def write_answers(engine: Engine, prompts: Iterable[Prompt], path: Path, max_tokens: int, batch: int) -> int:
    """Answers the prompts that `path` does not hold yet, `batch` at a time; returns the number of new tokens."""
    done = {answer.index for answer in read_answers(path)}
    todo = [prompt for prompt in prompts if prompt.index not in done]
    _drop_cut_line(path)
    progress = Progress("answers", len(todo), "tokens")
    waiting: deque[tuple[Prompt, list[int], Request]] = deque()
    with path.open("a", encoding="utf-8") as out:

        def finish_first() -> None:
            prompt, tokens, request = waiting.popleft()
            answer = request.result().tokens
            record = Answer(prompt.index, prompt.kind, prompt.temperature, len(tokens), [*tokens, *answer])
            out.write(json.dumps(record.__dict__, separators=(",", ":")) + "\n")
            out.flush()
            progress.step(len(answer))

        for prompt in todo:
            while len(waiting) >= 2 * batch:
                finish_first()
            tokens = engine.encode(engine.render([{"role": "user", "content": prompt.text}]), add_special=False)
            waiting.append((prompt, tokens, engine.submit(tokens, **_request(prompt, max_tokens), wait=True)))
        while waiting:
            finish_first()
    return progress.units


def _request(prompt: Prompt, max_tokens: int) -> dict[str, Any]:
    sampling = {"temperature": prompt.temperature} if prompt.temperature else None
    return {"max_tokens": max_tokens, "sampling": sampling, "seed": prompt.seed}


def _drop_cut_line(path: Path) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])
