"""Writes draft files, which the runtime loads as `head:PATH` (docs/formats.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize

FORMAT = 1
WEIGHTS = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "f16": gguf.GGMLQuantizationType.F16}
Q8_BLOCK = 32


def write_draft(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    name: str = "",
    licence: str = "",
    weights: str = "q8_0",
) -> int:
    """Writes the file whole or not at all; returns its size in bytes.

    metadata: by key without the prefix "forerun.draft.". Matrices become `weights`, vectors float32, and
    "draft_tokens" int32. Raises ValueError for rows that q8_0 cannot hold.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights: expected {' or '.join(WEIGHTS)}, found {weights!r}")
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    writer = gguf.GGUFWriter(partial, "forerun-draft")
    if name:
        writer.add_name(name)
    if licence:
        writer.add_license(licence)
    for key, value in {"format": FORMAT, **metadata}.items():
        _add(writer, "forerun.draft." + key, value)
    for key, value in tensors.items():
        if key == "draft_tokens":
            writer.add_tensor(key, value.astype(np.int32))
        elif value.ndim == 1:
            writer.add_tensor(key, value.astype(np.float32))
        elif weights == "f16":
            writer.add_tensor(key, value.astype(np.float16))
        elif value.shape[1] % Q8_BLOCK:
            raise ValueError(f"{key}: rows of {value.shape[1]} values do not fit {weights}; take f16")
        else:
            kind = WEIGHTS[weights]
            writer.add_tensor(key, quantize(np.ascontiguousarray(value, np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)
    return path.stat().st_size


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_array(key, [int(item) for item in value])
