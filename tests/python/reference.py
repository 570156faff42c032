"""A slow, obvious NumPy decoder, the oracle for logits: GGUF and Hugging Face files, llama, qwen2 and qwen3.

Weights come through the `gguf` package's dequantisers. Activations of quantised matrices are rounded to int8 per block
as the runtime documents it (docs/exactness.md), so that the comparison is tight; nothing else is shared.
"""

from __future__ import annotations

import math

import numpy as np

SUPERBLOCK = {"Q4_K", "Q5_K", "Q6_K"}
FLOATS = {"F32", "F16", "BF16"}


class Weights:
    """Matrices by GGUF role, with the type that decides how activations are rounded."""

    def __init__(self):
        self.values: dict[str, np.ndarray] = {}
        self.types: dict[str, str] = {}

    def add(self, role: str, values: np.ndarray, dtype: str = "F32") -> None:
        self.values[role] = np.asarray(values, np.float32)
        self.types[role] = dtype

    def __contains__(self, role: str) -> bool:
        return role in self.values


def round_activations(x: np.ndarray, block: int) -> np.ndarray:
    """int8 per block: scale = amax / 127, round half to even; returned dequantised."""
    blocks = x.astype(np.float32).reshape(*x.shape[:-1], -1, block)
    scale = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    safe = np.where(scale > 0, scale, 1)
    codes = np.where(scale > 0, np.rint(blocks / safe), 0)
    return (codes * scale).reshape(x.shape)


def linear(weights: Weights, role: str, x: np.ndarray) -> np.ndarray:
    dtype = weights.types[role + ".weight"]
    if dtype not in FLOATS:
        x = round_activations(x, 256 if dtype in SUPERBLOCK else 32)
    out = x.astype(np.float64) @ weights.values[role + ".weight"].astype(np.float64).T
    if role + ".bias" in weights:
        out += weights.values[role + ".bias"]
    return out


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def inverse_frequencies(config: dict) -> tuple[np.ndarray, float]:
    """Radians per position of each pair and the factor on cos and sin."""
    half = config["rotary"] // 2
    base = config.get("rope_base", 10000.0)
    inverse = base ** (-2.0 * np.arange(half) / config["rotary"])
    kind, factor = config.get("rope_scaling", "none"), config.get("rope_factor", 1.0)
    if kind == "linear":
        return inverse / factor, 1.0
    if kind == "llama3":
        original = config["rope_original_context"]
        low, high = config["rope_low"], config["rope_high"]
        wave = 2 * math.pi / inverse
        smooth = (original / wave - low) / (high - low)
        mixed = (1 - smooth) * inverse / factor + smooth * inverse
        scaled = np.where(wave > original / low, inverse / factor, mixed)
        return np.where(wave < original / high, inverse, scaled), 1.0
    if kind == "yarn":
        original = config["rope_original_context"]

        def dimension(turns: float) -> float:
            return config["rotary"] * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(dimension(32.0)), 0)
        high = min(math.ceil(dimension(1.0)), config["rotary"] - 1)
        ramp = np.clip((np.arange(half) - low) / (high - low if high != low else 0.001), 0, 1)
        return inverse / factor * ramp + inverse * (1 - ramp), 0.1 * math.log(factor) + 1.0
    return inverse, 1.0


def rotate(x: np.ndarray, config: dict) -> np.ndarray:
    """x: [tokens, heads, head_dim]."""
    inverse, magnitude = inverse_frequencies(config)
    angle = np.arange(x.shape[0])[:, None, None] * inverse
    cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude
    out = x.astype(np.float64).copy()
    rotary = config["rotary"]
    if config["interleaved"]:
        first, second = slice(0, rotary, 2), slice(1, rotary, 2)
    else:
        first, second = slice(0, rotary // 2), slice(rotary // 2, rotary)
    a, b = out[..., first].copy(), out[..., second].copy()
    out[..., first], out[..., second] = a * cos - b * sin, a * sin + b * cos
    return out


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, kept: type) -> np.ndarray:
    """Causal, grouped; keys and values rounded to `kept` as the cache keeps them."""
    tokens, heads, width = q.shape
    k = np.repeat(k.astype(kept), heads // k.shape[1], 1).astype(np.float64)
    v = np.repeat(v.astype(kept), heads // v.shape[1], 1).astype(np.float64)
    scores = np.einsum("thd,shd->hts", q, k) / math.sqrt(width)
    scores[:, np.triu(np.ones((tokens, tokens), bool), 1)] = -np.inf
    return np.einsum("hts,shd->thd", softmax(scores), v).reshape(tokens, -1)


def hidden_states(config: dict, weights: Weights, tokens: list[int]) -> list[np.ndarray]:
    """[tokens, width] each: the residual stream that enters every layer, then the state after the final norm."""
    epsilon, n = config["epsilon"], len(tokens)
    kept = config.get("kept", np.float16)
    x = weights.values["token_embd.weight"][tokens].astype(np.float64)
    streams = []
    for layer in range(config["layers"]):
        streams.append(x)
        b = f"blk.{layer}."
        h = rms_norm(x, weights.values[b + "attn_norm.weight"], epsilon)
        q = linear(weights, b + "attn_q", h).reshape(n, config["heads"], -1)
        k = linear(weights, b + "attn_k", h).reshape(n, config["kv_heads"], -1)
        v = linear(weights, b + "attn_v", h).reshape(n, config["kv_heads"], -1)
        if b + "attn_q_norm.weight" in weights:
            q = rms_norm(q, weights.values[b + "attn_q_norm.weight"], epsilon)
            k = rms_norm(k, weights.values[b + "attn_k_norm.weight"], epsilon)
        x = x + linear(weights, b + "attn_output", attention(rotate(q, config), rotate(k, config), v, kept))
        h = rms_norm(x, weights.values[b + "ffn_norm.weight"], epsilon)
        gate, up = linear(weights, b + "ffn_gate", h), linear(weights, b + "ffn_up", h)
        x = x + linear(weights, b + "ffn_down", gate / (1 + np.exp(-gate)) * up)
    return [*streams, rms_norm(x, weights.values["output_norm.weight"], epsilon)]


def side_by_side(
    config: dict, weights: Weights, tokens: list[int], groups: list[tuple[int, int]]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The state after the final norm [tokens, width] and the stream that enters every layer, where the layers
    first..last of each group compute their attention of the stream that enters the first.

    A token sees the others' exact keys and values and its own as the groups make them.
    """
    epsilon, n = config["epsilon"], len(tokens)
    kept = config.get("kept", np.float16)

    def heads(layer, stream):
        b = f"blk.{layer}."
        h = rms_norm(stream, weights.values[b + "attn_norm.weight"], epsilon)
        q, k, v = (
            linear(weights, b + role, h).reshape(n, config[count], -1)
            for role, count in (("attn_q", "heads"), ("attn_k", "kv_heads"), ("attn_v", "kv_heads"))
        )
        if b + "attn_q_norm.weight" in weights:
            q = rms_norm(q, weights.values[b + "attn_q_norm.weight"], epsilon)
            k = rms_norm(k, weights.values[b + "attn_k_norm.weight"], epsilon)
        return rotate(q, config), rotate(k, config), v

    def attend(layer, exact, stream):
        """Row by row: rows before it exact, its own from `stream`."""
        (q, own_k, own_v), (_, k, v) = heads(layer, stream), heads(layer, exact)
        rows = []
        for row in range(n):
            keys, values = k[: row + 1].copy(), v[: row + 1].copy()
            keys[row], values[row] = own_k[row], own_v[row]
            queries = np.repeat(q[row : row + 1], row + 1, 0)
            rows.append(attention(queries, keys, values, kept)[row])
        return linear(weights, f"blk.{layer}.attn_output", np.stack(rows))

    exact = hidden_states(config, weights, tokens)
    x, streams, entered = exact[0], [], {}
    for layer in range(config["layers"]):
        streams.append(x)
        b = f"blk.{layer}."
        group = next(((first, last) for first, last in groups if first <= layer <= last), (layer, layer))
        stream = entered.setdefault(group, x)
        x = x + attend(layer, exact[layer], stream)
        h = rms_norm(x, weights.values[b + "ffn_norm.weight"], epsilon)
        gate, up = linear(weights, b + "ffn_gate", h), linear(weights, b + "ffn_up", h)
        x = x + linear(weights, b + "ffn_down", gate / (1 + np.exp(-gate)) * up)
    return rms_norm(x, weights.values["output_norm.weight"], epsilon), streams


def log_probabilities(config: dict, weights: Weights, tokens: list[int]) -> np.ndarray:
    """log-softmax after every token: [tokens, vocab]."""
    h = hidden_states(config, weights, tokens)[-1]
    logits = linear(weights, "output" if "output.weight" in weights else "token_embd", h)
    peak = logits.max(-1, keepdims=True)
    return logits - peak - np.log(np.exp(logits - peak).sum(-1, keepdims=True))
