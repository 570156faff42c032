"""The parts of a target file that a draft shares with it, as float32: embedding, head rows, final norm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

from forerun.draft_file import Target


@dataclass(frozen=True, kw_only=True)
class TargetParts(Target):
    """embedding, head [vocab, width] (one array where the file ties them), norm [width]."""

    embedding: np.ndarray
    head: np.ndarray
    norm: np.ndarray
    kv_heads: int
    head_dim: int
    ffn_width: int


def check_file(path: Path) -> None:
    """Raises ValueError for a target that is no file."""
    if path.is_dir():
        raise ValueError(f"{path}: a draft is trained for a .gguf file, found a folder")


def read_target(path: Path) -> TargetParts:
    """Raises NotImplementedError for a model that the runtime does not have, ValueError for one that is no .gguf file
    or lacks what a draft needs.
    """
    check_file(path)
    target = Target.of(str(path))
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def values(name: str) -> np.ndarray:
        if name not in tensors:
            raise ValueError(f"{path}: no tensor {name}; expected a decoder with an embedding and a final norm")
        tensor = tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float32)

    prefix = reader.get_field("general.architecture").contents()

    def number(key: str, default: int | None = None) -> int:
        found = reader.get_field(f"{prefix}.{key}")
        if found is None and default is None:
            raise ValueError(f"{path}: no {prefix}.{key}")
        return int(default if found is None else found.contents())

    embedding = values("token_embd.weight")
    return TargetParts(
        **asdict(target),
        embedding=embedding,
        head=values("output.weight") if "output.weight" in tensors else embedding,
        norm=values("output_norm.weight"),
        kv_heads=number("attention.head_count_kv", target.heads),
        head_dim=number("attention.key_length", embedding.shape[1] // target.heads),
        ffn_width=number("feed_forward_length"),
    )
