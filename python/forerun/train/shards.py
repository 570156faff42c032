"""Shards: what the target showed at every token of some sequences, in files that are mapped, not read whole.

One safetensors file holds whole sequences after one another, N tokens of S sequences:

    tokens        i32 [N]
    starts        i64 [S + 1]   where each sequence begins; the last entry is N
    learn_from    i32 [S]       the first token of each sequence to be predicted (its answer's first)
    features      f16 [N, W]    the tapped hidden states side by side, in the order of the metadata's `taps`
    top_tokens    i32 [N, k]    the target's likeliest next tokens, likeliest first
    top_logprobs  f16 [N, k]    their log-probabilities
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


@dataclass(frozen=True, eq=False)
class Sequence:
    """One sequence of n tokens; arrays as in a shard. `source` says which shard and place it is from."""

    tokens: np.ndarray
    learn_from: int
    features: np.ndarray
    top_tokens: np.ndarray
    top_logprobs: np.ndarray
    source: str = ""


def write_shard(path: Path, sequences: list[Sequence], taps: list[int], target: str) -> None:
    """Writes a shard whole or not at all."""
    lengths = [len(sequence.tokens) for sequence in sequences]
    arrays = {
        "tokens": np.concatenate([s.tokens for s in sequences]).astype(np.int32),
        "starts": np.cumsum([0, *lengths]).astype(np.int64),
        "learn_from": np.array([s.learn_from for s in sequences], np.int32),
        "features": np.concatenate([s.features for s in sequences]).astype(np.float16),
        "top_tokens": np.concatenate([s.top_tokens for s in sequences]).astype(np.int32),
        "top_logprobs": np.concatenate([s.top_logprobs for s in sequences]).astype(np.float16),
    }
    partial = path.with_suffix(".partial")
    save_file(arrays, partial, {"format": "1", "taps": json.dumps(taps), "target": target})
    partial.replace(path)


def shard_settings(path: Path) -> dict[str, Any]:
    """What a shard was collected with: {"target": file name, "taps": [...], "top_k": n}."""
    with safe_open(path, "np") as file:
        held = file.metadata()
        top_k = file.get_slice("top_tokens").get_shape()[1]
    return {"target": held["target"], "taps": json.loads(held["taps"]), "top_k": top_k}


def shard_sequences(path: Path) -> int:
    """How many sequences a shard holds; 0 when there is no such file."""
    if not path.exists():
        return 0
    with safe_open(path, "np") as file:
        return file.get_slice("learn_from").get_shape()[0]


def read_shard(path: Path, taps: list[int] | None = None) -> Iterator[Sequence]:
    """The sequences of a shard. taps: keep the features of these, in this order; None keeps all.

    Raises ValueError when the shard does not hold one of `taps`.
    """
    with safe_open(path, "np") as file:
        held = json.loads(file.metadata()["taps"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    missing = [tap for tap in taps or [] if tap not in held]
    if missing:
        raise ValueError(f"{path}: holds the taps {held}, not {missing}; collect them first")
    features = arrays["features"]
    if taps is not None and taps != held:
        width = features.shape[1] // len(held)
        parts = [features[:, held.index(tap) * width : (held.index(tap) + 1) * width] for tap in taps]
        features = np.concatenate([features[:, :0], *parts], 1)
    for index, (start, end) in enumerate(zip(arrays["starts"][:-1], arrays["starts"][1:], strict=True)):
        part = slice(int(start), int(end))
        yield Sequence(
            arrays["tokens"][part],
            int(arrays["learn_from"][index]),
            features[part],
            arrays["top_tokens"][part],
            arrays["top_logprobs"][part],
            f"{path.name}:{index}",
        )
