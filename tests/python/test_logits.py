"""Logits against the NumPy decoder, for every architecture, block type, file format and RoPE variant."""

from __future__ import annotations

import numpy as np
import pytest
from reference import log_probabilities
from tiny_files import make, write_gguf, write_hf

from forerun import _core

QUANTIZED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
TOKENS = [97, 98, 32, 99, 100, 101, 10, 97, 98, 99, 200, 13, 65, 66, 67, 97, 98, 32, 99, 100]


def config(architecture: str, **changes) -> dict:
    base = {
        "architecture": architecture,
        "layers": 2,
        "width": 256,
        "ffn": 512,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 64,
        "rotary": 64,
        "vocab": 260,
        "epsilon": 1e-5,
        "interleaved": False,
    }
    return base | changes


def runtime_log_probabilities(path, tokens: list[int], vocab: int) -> np.ndarray:
    """The runtime's own log-softmax after every token."""
    session = _core.Engine(str(path), draft="none", threads=2).session(logprobs=vocab)
    rows = np.empty((len(tokens), vocab))
    for i, token in enumerate(tokens):
        session.append([token])
        for other, value in session.step(1)["logprobs"][0]["top"]:
            rows[i, other] = value
        session.rewind(i + 1)
    return rows


def check(path, shape: dict, weights, tokens: list[int], tolerance: float) -> None:
    expected = log_probabilities(shape, weights, tokens)
    found = runtime_log_probabilities(path, tokens, shape["vocab"])
    assert np.isfinite(found).all()
    error = np.abs(found - expected).max() / expected.std()
    assert error < tolerance, f"largest error {error:.2e} of the spread of the log-probabilities"


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("dtype", [*QUANTIZED, "F32", "F16", "BF16"])
def test_gguf_logits_equal_the_reference(tmp_path, architecture, dtype):
    shape = config(architecture, interleaved=architecture == "llama")
    files, weights = make(np.random.default_rng(1), shape, dtype, dtype)
    write_gguf(tmp_path / "m.gguf", shape, files)
    # A rounding border that falls the other way moves one int8 code of one activation: a few tenths of a percent.
    check(tmp_path / "m.gguf", shape, weights, TOKENS, 2e-3 if dtype in ("F32", "F16", "BF16") else 2e-2)


def test_a_head_tied_to_a_quantised_embedding(tmp_path):
    shape = config("llama", interleaved=True, tied=True)
    files, weights = make(np.random.default_rng(2), shape, "Q4_1", "Q8_0")
    write_gguf(tmp_path / "m.gguf", shape, files)
    check(tmp_path / "m.gguf", shape, weights, TOKENS, 2e-2)


def test_widths_that_are_not_multiples_of_256(tmp_path):
    shape = config("llama", interleaved=True, width=192, ffn=224, heads=3, kv_heads=1, head_dim=32, rotary=32)
    files, weights = make(np.random.default_rng(3), shape, "Q4_1", "Q8_0")
    write_gguf(tmp_path / "m.gguf", shape, files)
    check(tmp_path / "m.gguf", shape, weights, TOKENS, 2e-2)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize(("dtype", "shards"), [("F32", 1), ("F16", 3), ("BF16", 2)])
def test_hugging_face_logits_equal_the_reference(tmp_path, architecture, dtype, shards):
    shape = config(architecture)
    files, weights = make(np.random.default_rng(4), shape, dtype, dtype)
    write_hf(tmp_path / "m", shape, files, shards)
    check(tmp_path / "m", shape, weights, TOKENS, 2e-3)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_scaling": "linear", "rope_factor": 4.0},
        {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_context": 128},
        {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_context": 64, "rope_low": 1.0, "rope_high": 4.0},
        {"rope_base": 500000.0},
    ],
    ids=["linear", "yarn", "llama3", "base"],
)
def test_rope_variants_equal_the_reference(tmp_path, rope):
    shape = config("llama", **rope)
    files, weights = make(np.random.default_rng(5), shape, "F32", "F32")
    write_hf(tmp_path / "m", shape, files)
    tokens = (TOKENS * 5)[:90]  # beyond a page of keys
    check(tmp_path / "m", shape, weights, tokens, 2e-3)
    if rope.get("rope_scaling") != "llama3":
        gguf_shape = shape | {"architecture": "qwen2"}
        files, weights = make(np.random.default_rng(6), gguf_shape, "F32", "F32")
        write_gguf(tmp_path / "m.gguf", gguf_shape, files)
        check(tmp_path / "m.gguf", gguf_shape, weights, tokens, 2e-3)
