"""The parts of a target file that a draft shares with it, as float32: embedding, head rows, final norm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize


@dataclass(frozen=True)
class TargetParts:
    """embedding, head [vocab, width] (one array where the file ties them), norm [width]."""

    name: str
    embedding: np.ndarray
    head: np.ndarray
    norm: np.ndarray
    layers: int
    norm_epsilon: float
    rope_base: float
    heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int

    @property
    def vocab(self) -> int:
        return self.embedding.shape[0]

    @property
    def width(self) -> int:
        return self.embedding.shape[1]


def read_target(path: Path) -> TargetParts:
    """Raises ValueError when the file lacks what a draft needs."""
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def values(name: str) -> np.ndarray:
        if name not in tensors:
            raise ValueError(f"{path}: no tensor {name}; expected a decoder with an embedding and a final norm")
        tensor = tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float32)

    prefix = _field(reader, "general.architecture", None)

    def number(key: str, default: float | None = None) -> float:
        return _field(reader, f"{prefix}.{key}", default)

    embedding = values("token_embd.weight")
    heads = int(number("attention.head_count"))
    return TargetParts(
        name=str(_field(reader, "general.name", path.stem)),
        embedding=embedding,
        head=values("output.weight") if "output.weight" in tensors else embedding,
        norm=values("output_norm.weight"),
        layers=int(number("block_count")),
        norm_epsilon=float(number("attention.layer_norm_rms_epsilon")),
        rope_base=float(number("rope.freq_base", 10000.0)),
        heads=heads,
        kv_heads=int(number("attention.head_count_kv", heads)),
        head_dim=int(number("attention.key_length", embedding.shape[1] // heads)),
        ffn_width=int(number("feed_forward_length")),
    )


def _field(reader: gguf.GGUFReader, key: str, default: object) -> object:
    found = reader.get_field(key)
    if found is None:
        if default is None:
            raise ValueError(f"the target file has no {key}")
        return default
    return found.contents()
