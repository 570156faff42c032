"""Keeps what the target showed of texts, features and top-k logits at every token, in shards.

The target is the quantised one, through the runtime itself, so that a draft learns from the very numbers it will meet.
What it shows of its own answers is recorded as it writes them; other texts it reads once. Both give the same bits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forerun.train.progress import Progress
from forerun.train.shards import Sequence, shard_sequences, shard_settings, write_shard
from forerun.train.texts import Text

if TYPE_CHECKING:
    from forerun.engine import Engine


@dataclass(frozen=True)
class Budget:
    """shard_tokens: tokens in a shard, about. most_bytes: stop when the shards would take more, 0 sets no limit.
    most_tokens: of one sequence; the rest is left out.
    """

    shard_tokens: int = 32768
    most_bytes: int = 0
    most_tokens: int = 1024


class Collected(NamedTuple):
    """Texts and tokens that a folder holds under a name, and whether the budget had room for all."""

    texts: int
    tokens: int
    whole: bool


def claim(folder: Path, engine: Engine, taps: list[int], top_k: int) -> None:
    """Makes `folder` one of this target, these taps and so many next tokens.

    Raises ValueError when it is one of others already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"target": Path(engine.info["path"]).name, "taps": taps, "top_k": top_k}
    path = folder / "collected.json"
    shards = sorted(folder.glob("*.safetensors"))
    held = wanted
    if path.exists():
        held = json.loads(path.read_text(encoding="utf-8"))
    elif shards:
        held = shard_settings(shards[0])
    if held != wanted:
        differ = [name for name in wanted if held.get(name) != wanted[name]]
        found, expected = (", ".join(f"{name} {one[name]}" for name in differ) for one in (held, wanted))
        raise ValueError(f"{folder}: holds {found}, not {expected}; take another folder")
    if not path.exists():
        path.write_text(json.dumps(wanted), encoding="utf-8")


def collect(
    engine: Engine,
    texts: Iterable[Text],
    folder: Path,
    taps: list[int],
    top_k: int,
    budget: Budget,
    name: str = "texts",
) -> Collected:
    """Writes the shards NAME-00000 and so on that `folder` lacks. A shard is a fixed run of texts, so a run that was
    stopped goes on with the first shard that is missing, and one with more texts with the last, partial one. Texts are
    asked for as they are needed.

    Raises OSError when the disk has less free than one shard may need, ValueError as `claim` does.
    """
    claim(folder, engine, taps, top_k)
    progress = Progress(f"features of {name}", len(texts) if isinstance(texts, list) else None, "tokens")
    target = Path(engine.info["path"]).name
    count = tokens = 0
    for index, group in enumerate(_groups(texts, budget)):
        path = folder / f"{name}-{index:05}.safetensors"
        of_group = sum(len(text.tokens) for text in group)
        if shard_sequences(path) == len(group):
            progress.skip(len(group))
            count, tokens = count + len(group), tokens + of_group
            continue
        done = []
        for text in group:
            done.append(look(engine, text, taps, top_k))
            if text.recorded is None:
                progress.step(len(text.tokens))
        size = sum(s.features.nbytes + s.top_tokens.nbytes + s.top_logprobs.nbytes for s in done)
        held = sum(file.stat().st_size for file in folder.glob("*.safetensors") if file != path)
        if budget.most_bytes and held + size > budget.most_bytes:
            return Collected(count, tokens, False)
        if shutil.disk_usage(folder).free < 2 * size:
            raise OSError(f"{folder}: less than {2 * size >> 20} MiB free, too little for another shard")
        write_shard(path, done, taps, target)
        count, tokens = count + len(group), tokens + of_group
    return Collected(count, tokens, True)


def _groups(texts: Iterable[Text], budget: Budget) -> Iterable[list[Text]]:
    group: list[Text] = []
    tokens = 0
    for text in texts:
        cut = text._replace(tokens=text.tokens[: budget.most_tokens])
        if len(cut.tokens) < cut.learn_from + 2:
            continue
        group.append(cut)
        tokens += len(cut.tokens)
        if tokens >= budget.shard_tokens:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def look(engine: Engine, text: Text, taps: list[int], top_k: int) -> Sequence:
    """What the target shows of a text, of all but its last token, with laws from the one before `learn_from` on. It
    reads the text unless that was recorded. Nothing is learnt from what is left out, so it is zero.
    """
    tokens, learn_from, shown = text
    if shown is None:
        shown = engine.features(tokens[:-1], taps=taps, top_k=top_k, first_law=learn_from - 1)
    count, laws = len(tokens), slice(learn_from - 1, len(tokens) - 1)
    features = np.zeros((count, shown.states.shape[1]), np.float16)
    top_tokens = np.zeros((count, top_k), np.int32)
    top_logprobs = np.full((count, top_k), -np.inf, np.float16)
    features[:-1] = shown.states[: count - 1]
    top_tokens[laws] = shown.top_tokens[: count - learn_from]
    top_logprobs[laws] = shown.top_logprobs[: count - learn_from]
    return Sequence(np.array(tokens, np.int32), learn_from, features, top_tokens, top_logprobs)
