"""Draft files with random weights, and what such a draft says, in NumPy: the oracle for draft heads.

The twin makes every row from scratch: the pairs of the text from the target's states, a node of a tree from what its
parent handed down. Only keys and values are rounded, to half floats as the runtime keeps them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forerun import draft_file
from reference import attention, rms_norm, rotate

I32 = np.int32


def draft_config(family: str, **changes) -> dict:
    base = {
        "family": family,
        "width": 256,
        "blocks": 1,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 32,
        "ffn_width": 320,
        "norm_epsilon": 1e-5,
        "rope_base": 10000.0,
        "taps": {"eagle3": [2, 0, 1], "kangaroo": [2]}.get(family, [-1]),
        "target.width": 256,
        "target.layers": 3,
        "target.vocab": 260,
    }
    return base | changes


def random_draft(rng, c: dict, tokens: np.ndarray | None = None, own_head: bool = False) -> dict[str, np.ndarray]:
    """Tensors by name. tokens: the target's ids of the head's rows. What one row hands to the next stays of one size,
    or rounding would grow with the depth of a tree."""
    out: dict[str, np.ndarray] = {}
    d, target, family = c["width"], c["target.width"], c["family"]

    def matrix(name, rows, cols, gain=1.0):
        out[name + ".weight"] = rng.normal(0, gain / np.sqrt(cols), (rows, cols)).astype(np.float32)

    def norm(name, size=d):
        out[name + ".weight"] = rng.normal(1, 0.2, size).astype(np.float32)

    if family == "dgf":
        norm("token_norm", target)
        matrix("dgf.w1", d, target)
        matrix("dgf.w2", d, target, 2.0)
        matrix("dgf.gate", d, 2 * d, 2.0)
    elif family in ("medusa", "hydra"):
        for k in range(c["stacks"]):
            if family == "hydra":
                for part in ("skip", "in"):
                    matrix(f"hydra.{k}.{part}", d, (k + 2) * d)
                    out[f"hydra.{k}.{part}.bias"] = rng.normal(0, 0.3, d).astype(np.float32)
            for j in range(2 if family == "medusa" else 1):
                matrix(f"{family}.{k}.block.{j}", d, d)
                out[f"{family}.{k}.block.{j}.bias"] = rng.normal(0, 0.3, d).astype(np.float32)
            if own_head:
                matrix(f"{family}.{k}.head", c["target.vocab"] if tokens is None else len(tokens), d, 2.0)
        own_head = False
        if c["blocks"]:
            norm("norm")
    elif family == "kangaroo":
        norm("norm")
    elif family == "falcon":
        for layer, inputs in ((0, target + d), (1, d)):
            matrix(f"lstm.{layer}.in", 4 * d, inputs, 2.0)
            out[f"lstm.{layer}.in.bias"] = rng.normal(0, 0.3, 4 * d).astype(np.float32)
            matrix(f"lstm.{layer}.hidden", 4 * d, d, 2.0)
    elif family == "chimera":
        matrix("trigram.block", 3 * target, 3 * target)
        out["trigram.block.bias"] = rng.normal(0, 0.3, 3 * target).astype(np.float32)
        matrix("trigram.out", d, 3 * target)
    elif family == "eagle":
        matrix("fc", d, target + d)
        if c.get("bias"):
            out["fc.bias"] = rng.normal(0, 0.3, d).astype(np.float32)
    else:
        matrix("fc", d, len(c["taps"]) * target)
        norm("block.0.token_norm", target)
        norm("block.0.hidden_norm")
        norm("norm")
    q, kv = c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"]
    for index in range(c["blocks"]):
        b = f"block.{index}."
        inputs = d + target if family == "eagle3" and index == 0 else d
        if index or family in ("hydra", "kangaroo", "chimera"):
            norm(b + "attn_norm")
        if c["ffn_width"]:
            norm(b + "ffn_norm")
        matrix(b + "q", q, inputs)
        matrix(b + "k", kv, inputs)
        matrix(b + "v", kv, inputs)
        matrix(b + "o", d, q, 0.5)
        if not c["ffn_width"]:
            continue
        matrix(b + "gate", c["ffn_width"], d)
        matrix(b + "up", c["ffn_width"], d)
        matrix(b + "down", d, c["ffn_width"], 4.0 if family == "falcon" else 0.5)  # what an LSTM puts out is small
    if tokens is not None:
        out["draft_tokens"] = np.asarray(tokens, I32)
    if own_head:
        inputs = 2 * d if family == "chimera" else d
        matrix("head", c["target.vocab"] if tokens is None else len(tokens), inputs, 2.0)
    return out


def write_draft(path: Path, c: dict, tensors: dict[str, np.ndarray], **changes) -> Path:
    """changes: metadata that replaces or, None, drops what `c` says."""
    metadata = {key: value for key, value in (c | changes).items() if key not in ("bias", "stacks")}
    draft_file.write_draft(path, metadata, tensors, weights="f32")
    return path


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Twin:
    """embedding, head [V, d]: the target's."""

    before_text = 0  # the text's first token, which no pair is of

    def __init__(self, c: dict, tensors: dict[str, np.ndarray], embedding: np.ndarray, head: np.ndarray):
        self.c, self.t = c, {name: value.astype(np.float64) for name, value in tensors.items()}
        self.embedding = embedding.astype(np.float64)
        self.tokens = tensors.get("draft_tokens", np.arange(c["target.vocab"]))
        self.head = self.t.get("head.weight", head.astype(np.float64)[self.tokens])

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.t[name + ".weight"].T + self.t.get(name + ".bias", 0.0)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        return rms_norm(x, self.t[name + ".weight"], self.c["norm_epsilon"])

    def enter(self, tokens: list[int], states: np.ndarray, own: bool) -> tuple[np.ndarray, np.ndarray]:
        """What enters the first block's attention, and what it is added to."""
        e = self.embedding[tokens]
        if self.c["family"] == "dgf":
            h1 = self.linear("dgf.w1", states)
            h2 = self.linear("dgf.w2", self.norm("token_norm", e))
            h2 = h2 * sigmoid(h2)
            z = sigmoid(self.linear("dgf.gate", np.concatenate([h1, h2], -1)))
            x = z * h1 + (1 - z) * h2
            return x, x
        if self.c["family"] == "eagle":
            x = self.linear("fc", np.concatenate([e, states], -1))
            return x, x
        g = states if own else self.linear("fc", states)
        v = self.norm("block.0.hidden_norm", g)
        u = self.norm("block.0.token_norm", e)
        return np.concatenate([u, v], -1), v if self.c.get("norm_before_residual") else g

    def outputs(self, tokens: list[int], states: np.ndarray, chain: list[int]) -> np.ndarray:
        """States of all rows [rows, d]: pairs (tokens[i], states[i]), then a chain of tokens made of own states."""
        x = None
        for done in range(len(chain) + 1):  # one more row at a time: slow, and obviously right
            entered, residual = self.enter(tokens, states, own=False)
            for step in range(done):
                more, rest = self.enter([chain[step]], x[len(tokens) - 1 + step][None], own=True)
                entered, residual = np.concatenate([entered, more]), np.concatenate([residual, rest])
            x = self.run_blocks(entered, residual)
        return x

    def span_state(self, tokens: list[int], states: np.ndarray, chain: list[int]) -> np.ndarray:
        """Falcon: the row of the last span that guesses what follows the chain. `before_text` is the token before."""
        c, span, states = self.c, self.c["span"], list(states)
        text = [self.before_text, *tokens, *chain]
        heads, shape = c["heads"], {"rotary": c["head_dim"], "rope_base": c["rope_base"], "interleaved": False}
        for _ in range(len(chain) // span + 1):
            before = max(0, span - len(states))  # rows of a span that lie before the text, and are not seen
            x = np.stack([self.window(text, states, row) for row in range(-before, len(states))])
            q, k, v = (self.linear(f"block.0.{part}", x).reshape(len(x), -1, c["head_dim"]) for part in "qkv")
            q, k = rotate(q, shape), rotate(k, shape).astype(np.float16).astype(np.float64)
            k, v = (np.repeat(y.astype(np.float16).astype(np.float64), heads // y.shape[1], 1) for y in (k, v))
            scores = np.einsum("thd,shd->hts", q[-span:], k) / np.sqrt(c["head_dim"])  # of all, those after it too
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights[..., :before] = 0
            weights /= weights.sum(-1, keepdims=True)
            x = x[-span:] + self.linear("block.0.o", np.einsum("hts,shd->thd", weights, v).reshape(span, -1))
            h = self.norm("block.0.ffn_norm", x)
            x = x + self.linear(
                "block.0.down", self.silu(self.linear("block.0.gate", h)) * self.linear("block.0.up", h)
            )
            states += list(x)
        return x[len(chain) % span]

    def window(self, text: list[int], states: list[np.ndarray], row: int) -> np.ndarray:
        """What enters the block in a row: an LSTM of two layers over the last tokens, and the states before them."""
        places = range(row + 1 - self.c["span"], row + 1)
        rows = [np.concatenate([self.embedding[text[max(at + 1, 0)]], states[max(at, 0)]]) for at in places]
        for layer in ("lstm.0.", "lstm.1."):
            out, cell, made = np.zeros(self.c["width"]), np.zeros(self.c["width"]), []
            for y in rows:
                i, f, g, o = (self.linear(layer + "in", y) + self.linear(layer + "hidden", out)).reshape(4, -1)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                out = sigmoid(o) * np.tanh(cell)
                made.append(out)
            rows = made
        return rows[-1]

    def threes_state(self, tokens: list[int], states: np.ndarray, chain: list[int]) -> np.ndarray:
        """Chimera: the last row's own state, and the target's before the root. Tokens matter in the last rows only."""
        shown, text = list(states), [tokens[0], tokens[0], *tokens, *chain]
        while True:  # one more row at a time
            x = np.stack([np.concatenate(self.embedding[text[row : row + 3]]) for row in range(len(shown))])
            x = self.linear("trigram.out", x + self.silu(self.linear("trigram.block", x)))
            own = self.run_blocks(None, x, np.stack(shown))[-1]
            if len(shown) == len(text) - 2:
                return np.concatenate([own, states[-1]])
            shown.append(own)

    def run_blocks(self, entered: np.ndarray, x: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
        """shown: what keys and values are made of, where that is not the rows themselves."""
        c, n = self.c, len(x)
        shape = {"rotary": c["head_dim"], "rope_base": c["rope_base"], "interleaved": False}
        for index in range(c["blocks"]):
            b = f"block.{index}."
            h = self.norm(b + "attn_norm", x) if b + "attn_norm.weight" in self.t else entered
            of = h if shown is None else self.norm(b + "attn_norm", shown)
            parts = {"q": h, "k": of, "v": of}
            q, k, v = (self.linear(b + part, y).reshape(n, -1, c["head_dim"]) for part, y in parts.items())
            x = x + self.linear(b + "o", attention(rotate(q, shape), rotate(k, shape), v, np.float16))
            if b + "gate.weight" not in self.t:
                continue
            h = self.norm(b + "ffn_norm", x)
            gate = self.linear(b + "gate", h)
            x = x + self.linear(b + "down", gate * sigmoid(gate) * self.linear(b + "up", h))
        return x

    def law(self, tokens: list[int], states: np.ndarray, chain: list[int]) -> np.ndarray:
        """q over the draft's tokens after the chain: softmax of the last row's logits."""
        if "stacks" in self.c:
            return self.stacked_law(tokens, states, chain)
        if self.c["family"] == "falcon":
            return self.softmax(self.head @ self.span_state(tokens, states, chain))
        if self.c["family"] == "chimera":
            return self.softmax(self.head @ self.threes_state(tokens, states, chain)[: self.head.shape[1]])
        x = self.outputs(tokens, states, chain)[-1]
        if self.c["family"] == "eagle3":
            x = self.norm("norm", x)
        return self.softmax(self.head @ x)

    def stacked_law(self, tokens: list[int], states: np.ndarray, chain: list[int]) -> np.ndarray:
        """Medusa and Hydra: stack k guesses what follows a chain of k tokens."""
        name = f"{self.c['family']}.{len(chain)}."
        head = self.t.get(name + "head.weight", self.head)
        return self.softmax(head @ self.stack_state(tokens, states, chain))

    def stack_state(self, tokens: list[int], states: np.ndarray, chain: list[int]) -> np.ndarray:
        name = f"{self.c['family']}.{len(chain)}."
        x = states[-1]
        if self.c["blocks"]:
            x = self.norm("norm", self.run_blocks(None, states)[-1])
        if self.c["family"] == "hydra":
            x = np.concatenate([x, *self.embedding[[tokens[-1], *chain]]])
            x = self.linear(name + "skip", x) + self.silu(self.linear(name + "in", x))
        for j in range(2 if self.c["family"] == "medusa" else 1):
            x = x + self.silu(self.linear(f"{name}block.{j}", x))
        return x

    @staticmethod
    def silu(x: np.ndarray) -> np.ndarray:
        return x * sigmoid(x)

    @staticmethod
    def softmax(logits: np.ndarray) -> np.ndarray:
        e = np.exp(logits - logits.max())
        return e / e.sum()
