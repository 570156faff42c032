"""Runs the target over texts and keeps what it showed: features and top-k logits at every token, in shards.

The target is the quantised one, through the runtime itself, so that a draft learns from the very numbers it will meet.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forerun.train.progress import Progress
from forerun.train.shards import Sequence, shard_sequences, write_shard

if TYPE_CHECKING:
    from forerun.engine import Engine

Text = tuple[list[int], int]  # tokens, and the first of them to be predicted


@dataclass(frozen=True)
class Budget:
    """shard_tokens: tokens in a shard, about. most_bytes: stop when the shards would take more, 0 sets no limit.
    most_tokens: of one sequence; the rest is left out.
    """

    shard_tokens: int = 32768
    most_bytes: int = 0
    most_tokens: int = 1024


def collect(engine: Engine, texts: list[Text], folder: Path, taps: list[int], top_k: int, budget: Budget) -> int:
    """Writes the shards that `folder` lacks; returns how many there are. A shard is a fixed run of texts, so a run
    that was stopped goes on with the first shard that is missing, and one with more texts with the last, partial one.

    Raises OSError when the disk has less free than one shard may need.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = list(_groups(texts, budget))
    todo = [index for index, group in enumerate(groups) if shard_sequences(shard_path(folder, index)) != len(group)]
    progress = Progress("features", sum(len(groups[index]) for index in todo), "tokens")
    target = Path(engine.info["path"]).name
    for index in todo:
        done = []
        for text in groups[index]:
            done.append(look(engine, text, taps, top_k))
            progress.step(len(text[0]))
        size = sum(s.features.nbytes + s.top_tokens.nbytes + s.top_logprobs.nbytes for s in done)
        held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        if budget.most_bytes and held + size > budget.most_bytes:
            break
        if shutil.disk_usage(folder).free < 2 * size:
            raise OSError(f"{folder}: less than {2 * size >> 20} MiB free, too little for another shard")
        write_shard(shard_path(folder, index), done, taps, target)
    return len(list(folder.glob("*.safetensors")))


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05}.safetensors"


def _groups(texts: Iterable[Text], budget: Budget) -> Iterable[list[Text]]:
    group: list[Text] = []
    tokens = 0
    for ids, learn_from in texts:
        cut = ids[: budget.most_tokens]
        if len(cut) < learn_from + 2:
            continue
        group.append((cut, learn_from))
        tokens += len(cut)
        if tokens >= budget.shard_tokens:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def look(engine: Engine, text: Text, taps: list[int], top_k: int) -> Sequence:
    """What the target shows at every token of a text."""
    ids, learn_from = text
    features, top_tokens, top_logprobs = engine.features(ids, taps=taps, top_k=top_k)
    return Sequence(np.array(ids, np.int32), learn_from, features, top_tokens, top_logprobs.astype(np.float16))
