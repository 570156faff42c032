"""Writes a trained draft as the file that the runtime loads (docs/formats.md)."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

from forerun.train.models import Draft
from forerun.train.target import TargetParts

FORMAT = 1
WEIGHTS = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "f16": gguf.GGMLQuantizationType.F16}


def export(draft: Draft, target: TargetParts, path: Path, name: str, weights: str = "q8_0", licence: str = "") -> int:
    """Writes the file whole or not at all; returns its size in bytes.

    Matrices become `weights`, vectors stay float32. Raises ValueError for a width that q8_0 cannot hold.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights: expected {' or '.join(WEIGHTS)}, found {weights!r}")
    config = draft.config
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "forerun-draft")
    writer.add_name(name)
    if licence:
        writer.add_license(licence)
    prefix = "forerun.draft."
    writer.add_uint32(prefix + "format", FORMAT)
    writer.add_string(prefix + "family", config.family)
    for key in ("width", "blocks", "heads", "kv_heads", "head_dim", "ffn_width"):
        writer.add_uint32(prefix + key, getattr(config, key))
    writer.add_float32(prefix + "norm_epsilon", config.norm_epsilon)
    writer.add_float32(prefix + "rope_base", config.rope_base)
    writer.add_array(prefix + "taps", config.taps)
    if config.family == "eagle3":
        writer.add_bool(prefix + "norm_before_residual", False)
    writer.add_uint32(prefix + "target.width", target.width)
    writer.add_uint32(prefix + "target.layers", target.layers)
    writer.add_uint32(prefix + "target.vocab", target.vocab)
    writer.add_string(prefix + "target.name", target.name)
    if len(draft.draft_tokens) < target.vocab:
        writer.add_tensor("draft_tokens", draft.draft_tokens.numpy().astype(np.int32))
    for key, value in tensors(draft).items():
        if value.ndim == 1:
            writer.add_tensor(key, value)
        else:
            kind = WEIGHTS[weights]
            if value.shape[1] % gguf.GGML_QUANT_SIZES[kind][0]:
                raise ValueError(f"{key}: rows of {value.shape[1]} values do not fit {weights}; take f16")
            writer.add_tensor(key, quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)
    return path.stat().st_size


def tensors(draft: Draft) -> dict[str, np.ndarray]:
    """The tensors of the file, float32, by name. A head that is the target's is not among them."""
    return {
        name: value.detach().float().numpy()
        for name, value in draft.state_dict().items()
        if draft.config.own_head or name != "head.weight"
    }


def as_stored(draft: Draft, weights: str = "q8_0") -> dict[str, np.ndarray]:
    """The tensors as the runtime reads them back: with the rounding of `weights`."""
    kind = WEIGHTS[weights]
    return {
        name: value if value.ndim == 1 else dequantize(quantize(value, kind), kind).reshape(value.shape)
        for name, value in tensors(draft).items()
    }
