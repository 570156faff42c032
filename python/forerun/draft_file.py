"""Draft files, which the runtime loads as `head:PATH`, and the like for other trained heads (docs/formats.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

from forerun import _core

FORMAT = 1
WEIGHTS = {
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_1": gguf.GGMLQuantizationType.Q4_1,
    "f16": gguf.GGMLQuantizationType.F16,
    "f32": gguf.GGMLQuantizationType.F32,
}


@dataclass(frozen=True)
class Target:
    """What a draft must fit."""

    name: str
    width: int
    layers: int
    vocab: int
    tokenizer: str
    heads: int = 0
    norm_epsilon: float = 1e-6
    rope_base: float = 10000.0

    @classmethod
    def of(cls, path: str) -> Target:
        report = _core.inspect(path)
        if not report["supported"]:
            raise NotImplementedError(f"{path}: {report['reason']}")
        data, is_gguf = report["metadata"], report["format"] == "gguf"
        prefix = f"{report['architecture']}." if is_gguf else ""
        width, layers = ("embedding_length", "block_count") if is_gguf else ("hidden_size", "num_hidden_layers")
        embedding = "token_embd.weight" if is_gguf else "model.embed_tokens.weight"
        shape = next(tensor["shape"] for tensor in report["tensors"] if tensor["name"] == embedding)
        return cls(
            name=str(data.get("general.name", "")) or Path(path).name,
            width=data[prefix + width],
            layers=data[prefix + layers],
            vocab=shape[0],
            tokenizer=_core.Tokenizer(path).fingerprint,
            heads=data[prefix + ("attention.head_count" if is_gguf else "num_attention_heads")],
            norm_epsilon=data[prefix + ("attention.layer_norm_rms_epsilon" if is_gguf else "rms_norm_eps")],
            rope_base=data.get(prefix + ("rope.freq_base" if is_gguf else "rope_theta"), 10000.0),
        )

    def metadata(self) -> dict[str, Any]:
        return {
            "target.width": self.width,
            "target.layers": self.layers,
            "target.vocab": self.vocab,
            "target.tokenizer": self.tokenizer,
            "target.name": self.name,
        }


def write_draft(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    name: str = "",
    licence: str = "",
    weights: str = "q8_0",
    kind: str = "draft",
) -> int:
    """Writes the file whole or not at all; returns its size in bytes.

    metadata: by key without the prefix "forerun.KIND."; None leaves a key out. Matrices become `weights`, vectors
    float32, and "draft_tokens" int32. Raises ValueError for rows that q8_0 cannot hold.
    """
    writer = _Writer(path, kind)
    if name:
        writer.out.add_name(name)
    if licence:
        writer.out.add_license(licence)
    for key, value in {"format": FORMAT, **metadata}.items():
        writer.add(f"forerun.{kind}.{key}", value)
    for key, value in tensors.items():
        writer.add_tensor(key, value, weights)
    return writer.close()


def read_draft(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata by key without "forerun.draft.", and the tensors in float32, "draft_tokens" in int32.

    Raises forerun.ModelFileError for a file that is malformed or no draft file.
    """
    metadata = _core.inspect(str(path))["metadata"]
    found = metadata.get("general.architecture")
    if found != "forerun-draft":
        raise _core.ModelFileError(f"{path}: general.architecture is {found!r}, expected 'forerun-draft'")
    if (version := metadata.get("forerun.draft.format")) != FORMAT:
        raise NotImplementedError(f"{path}: draft format {version}, this version reads {FORMAT}")
    prefix = "forerun.draft."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    tensors = {}
    for tensor in gguf.GGUFReader(path).tensors:
        integers = tensor.tensor_type == gguf.GGMLQuantizationType.I32
        values = tensor.data if integers else dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        tensors[tensor.name] = np.array(values)
    return own, tensors


def draft_weights(path: str | os.PathLike[str]) -> str:
    """How a draft file keeps its matrices, as `--weights` names it."""
    names = {kind: name for name, kind in WEIGHTS.items()}
    kinds = [names.get(tensor.tensor_type, "") for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) == 2]
    return max(WEIGHTS, key=kinds.count)


def check_weights(weights: str) -> None:
    """Raises ValueError for weights that `--weights` does not have."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights: expected {', '.join(WEIGHTS)}, found {weights!r}")


def extend_draft(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    *,
    weights: str = "q8_0",
) -> int:
    """Writes the draft file `source` with these tensors as well, or in place of its own; returns its size in bytes."""
    reader, writer = gguf.GGUFReader(source), _Writer(path, "draft")
    for field in reader.fields.values():
        if field.name.startswith(("general.", "forerun.")) and field.name != "general.architecture":
            sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.out.add_key_value(field.name, field.contents(), field.types[0], sub)
    for tensor in reader.tensors:
        if tensor.name not in tensors:
            writer.out.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for key, value in tensors.items():
        writer.add_tensor(key, value, weights)
    return writer.close()


def as_stored(tensors: Mapping[str, np.ndarray], weights: str) -> dict[str, np.ndarray]:
    """The tensors as the runtime reads them back: matrices with the rounding of `weights`."""
    kind = WEIGHTS[weights]
    return {
        name: value if value.ndim == 1 else dequantize(quantize(value, kind), kind).reshape(value.shape)
        for name, value in tensors.items()
    }


class _Writer:
    """A file under way; it replaces the one at `path` when it is closed."""

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        self._path = Path(path)
        self._partial = self._path.with_name(self._path.name + ".partial")
        self.out = gguf.GGUFWriter(self._partial, f"forerun-{kind}")

    def add(self, key: str, value: Any) -> None:
        if value is None:
            return
        if isinstance(value, bool):
            self.out.add_bool(key, value)
        elif isinstance(value, str):
            self.out.add_string(key, value)
        elif isinstance(value, float):
            self.out.add_float32(key, value)
        elif isinstance(value, int):
            self.out.add_uint32(key, value)
        else:
            self.out.add_array(key, [int(item) for item in value])

    def add_tensor(self, key: str, value: np.ndarray, weights: str) -> None:
        check_weights(weights)
        kind = WEIGHTS[weights]
        if key == "draft_tokens":
            self.out.add_tensor(key, value.astype(np.int32))
        elif value.ndim == 1:
            self.out.add_tensor(key, value.astype(np.float32))
        elif value.shape[1] % gguf.GGML_QUANT_SIZES[kind][0]:
            raise ValueError(f"{key}: rows of {value.shape[1]} values do not fit {weights}; take f16")
        else:
            self.out.add_tensor(key, quantize(np.ascontiguousarray(value, np.float32), kind), raw_dtype=kind)

    def close(self) -> int:
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_tensors_to_file()
        self.out.close()
        self._partial.replace(self._path)
        return self._path.stat().st_size
