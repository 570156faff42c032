"""The target's own answers to prompts: what a draft for it should learn to predict.

Answers go into a JSONL file, one a line, as token ids with the chat template's tokens around them. The file is the
state: a run that was stopped goes on where it ended.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from forerun.train.progress import Progress
from forerun.train.records import appended_records, read_records
from forerun.train.texts import Text

if TYPE_CHECKING:
    from forerun.engine import Engine
    from forerun.request import Request
    from forerun.train.prompts import Prompt
    from forerun.types import Completion

Item = TypeVar("Item")


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
    return (Answer(**record) for record in read_records(path))


def answers(
    engine: Engine, prompts: Iterable[Prompt], path: Path, max_tokens: int, batch: int, most_tokens: int
) -> Iterator[Text]:
    """The answers that `path` holds, then those to the prompts that it lacks, `batch` at a time, with what `engine`
    records. Each is in the file before it is given. Prompts that leave no room for an answer in `most_tokens` are left
    out; stderr says how many.
    """
    most = min(most_tokens, engine.info["context"]) - 2
    too_long = 0
    done = set()
    for answer in read_answers(path):
        done.add(answer.index)
        yield Text(answer.tokens, answer.prompt_length)
    todo = [prompt for prompt in prompts if prompt.index not in done]
    progress = Progress("answers", len(todo), "tokens")

    def asked() -> Iterator[Asked[tuple[Prompt, int]]]:
        nonlocal too_long
        for prompt in todo:
            tokens = engine.encode(engine.render([{"role": "user", "content": prompt.text}]), add_special=False)
            if len(tokens) > most:
                too_long += 1
                progress.skip(1)
                continue
            yield (prompt, len(tokens)), tokens, _request(prompt, max_tokens)

    with appended_records(path) as write:
        for (prompt, length), tokens, completion in completions(engine, asked(), 2 * batch):
            text = Text([*tokens, *completion.tokens], length, completion.features)
            write(Answer(prompt.index, prompt.kind, prompt.temperature, length, text.tokens))
            progress.step(len(completion.tokens))
            yield text
    if too_long:
        print(f"{path.name}: left out {too_long} prompts of more than {most} tokens", file=sys.stderr)


Asked = tuple[Item, list[int], dict[str, Any]]  # whatever it is for, a prompt's tokens, keywords of Engine.submit


def completions(
    engine: Engine, asked: Iterable[Asked[Item]], waiting: int
) -> Iterator[tuple[Item, list[int], Completion]]:
    """Has `engine` complete prompts, `waiting` of them at hand at any time, and gives the results in their order."""
    pending: deque[tuple[Item, list[int], Request]] = deque()
    for item, tokens, options in asked:
        if len(pending) >= waiting:
            first, ids, request = pending.popleft()
            yield first, ids, request.result()
        pending.append((item, tokens, engine.submit(tokens, **options, wait=True)))
    for item, tokens, request in pending:
        yield item, tokens, request.result()


def _request(prompt: Prompt, max_tokens: int) -> dict[str, Any]:
    sampling = {"temperature": prompt.temperature} if prompt.temperature else None
    return {"max_tokens": max_tokens, "sampling": sampling, "seed": prompt.seed}
