"""Block formats against the dequantisers of the `gguf` package, bit for bit."""

import numpy as np
import pytest

import needs
from forerun import _core

gguf = needs.module("gguf")  # the oracle
quants = needs.module("gguf.quants")

BLOCKS = 512
# Byte offsets of the half-precision scales in a block.
SCALES = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
# Zeros, subnormals, the largest values, infinities: of both signs.
EXTREME = [0x0000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0x7BFF, 0x7C00]
EXTREME = np.array(EXTREME + [half | 0x8000 for half in EXTREME], np.uint16)


def random_blocks(name: str, seed: int, finite: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for offset in SCALES.get(name, ()):
        small = rng.normal(0, 0.1, BLOCKS).astype(np.float16).view(np.uint16)
        scale = small if finite else rng.choice(EXTREME, BLOCKS)
        blocks[:, offset : offset + 2] = scale.reshape(-1, 1).view(np.uint8)
    blocks[: BLOCKS // 8][rng.random((BLOCKS // 8, size)) < 0.7] = 0
    return blocks


def assert_same_bits(name: str, blocks: np.ndarray) -> None:
    kind = gguf.GGMLQuantizationType[name]
    with np.errstate(all="ignore"):
        expected = quants.dequantize(blocks, kind).astype(np.float32).reshape(-1)
    found = _core.dequantize(name, blocks.tobytes(), expected.size)
    assert found.dtype == np.float32 and found.shape == expected.shape
    nan = np.isnan(expected)  # which NaN an operation gives is the processor's choice
    assert np.array_equal(np.isnan(found), nan)
    assert np.array_equal(found.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


@pytest.mark.parametrize("name", [*SCALES, "F32", "F16", "BF16"])
def test_random_blocks_have_the_bits_of_the_gguf_package(name):
    assert_same_bits(name, random_blocks(name, seed=1, finite=True))


@pytest.mark.parametrize("name", SCALES)
def test_extreme_scales_have_the_bits_of_the_gguf_package(name):
    assert_same_bits(name, random_blocks(name, seed=2, finite=False))


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_quantised_weights_come_back_within_half_a_code(name):
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 1, (16, 256)).astype(np.float32)
    blocks = quants.quantize(weights, gguf.GGMLQuantizationType[name])
    found = _core.dequantize(name, blocks.tobytes(), weights.size).reshape(weights.shape)
    codes = {"Q8_0": 255, "Q5_0": 31, "Q5_1": 31}.get(name, 15)
    span = np.abs(weights.reshape(-1, 32)).max(axis=1).repeat(32).reshape(weights.shape)
    assert np.all(np.abs(found - weights) <= span * (2.3 / codes) * 1.01)


def test_sizes_and_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="Q8_0"):
        _core.dequantize("Q8_0", bytes(33), 32)
    with pytest.raises(ValueError, match="31 elements"):
        _core.dequantize("Q8_0", bytes(34), 31)
    with pytest.raises(ValueError, match="Q2_K"):
        _core.dequantize("Q2_K", bytes(84), 256)
    with pytest.raises(NotImplementedError, match="I8"):
        _core.dequantize("I8", bytes(4), 4)
