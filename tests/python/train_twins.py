"""Drafts in NumPy, one row at a time, by the formulas of docs/formats.md: the oracle of the PyTorch models."""

from __future__ import annotations

import numpy as np


def rms(x, weight, epsilon):
    return x / np.sqrt((x * x).mean() + epsilon) * weight


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rotate(x, position, base):
    """NeoX pairs: value i of the first half with value i of the second."""
    half = x.shape[-1] // 2
    out = np.empty_like(x)
    for i in range(half):
        angle = position * base ** (-i / half)
        low, high = x[:, i].copy(), x[:, half + i].copy()
        out[:, i] = low * np.cos(angle) - high * np.sin(angle)
        out[:, half + i] = high * np.cos(angle) + low * np.sin(angle)
    return out


class Chain:
    """A draft that sees one row after another: a plain decoder with a cache, as at run time."""

    def __init__(self, tensors, shape, embedding):
        self.t = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
        self.shape, self.embedding = shape, np.asarray(embedding, np.float64)
        self.cache = [([], []) for _ in range(shape["blocks"])]
        self.last = []  # the tokens of the rows so far, and the first of the text before them

    def fork(self):
        other = Chain({}, self.shape, self.embedding)
        other.t, other.cache = self.t, [(list(keys), list(values)) for keys, values in self.cache]
        other.last = list(self.last)
        return other

    def row(self, state, token, own):
        """The output of a row; state: the target's features, or with `own` this draft's last output."""
        t, epsilon = self.t, self.shape["norm_epsilon"]
        state, e = np.asarray(state, np.float64), self.embedding[token]
        family = self.shape["family"]
        if family == "dgf":
            h1 = t["dgf.w1.weight"] @ state
            y = t["dgf.w2.weight"] @ rms(e, t["token_norm.weight"], epsilon)
            h2 = y * sigmoid(y)
            z = sigmoid(t["dgf.gate.weight"] @ np.concatenate([h1, h2]))
            x = into = z * h1 + (1 - z) * h2
        elif family == "eagle":
            x = into = t["fc.weight"] @ np.concatenate([e, state]) + t["fc.bias"]
        elif family in ("medusa", "hydra"):
            return self._path(state, e, own)
        elif family == "chimera":
            return self._threes(state, token, own)
        elif family == "kangaroo":  # the state of the token itself, wherever it is
            x = state
        else:
            x = state if own else t["fc.weight"] @ state
            u, v = rms(e, t["block.0.token_norm.weight"], epsilon), rms(x, t["block.0.hidden_norm.weight"], epsilon)
            into = np.concatenate([u, v])
        for index in range(self.shape["blocks"]):
            if index or family == "kangaroo":
                into = rms(x, t[f"block.{index}.attn_norm.weight"], epsilon)
            x = self._block(f"block.{index}.", x, into, self.cache[index])
        return x

    def _threes(self, state, token, own):
        """What chimera hands down: its own state of the token, then the target's before the root."""
        self.last.append(token)
        width = self.shape["width"]
        three = [*self.last[:1] * 2, *self.last][-3:]
        x = np.concatenate([self.embedding[t] for t in three])
        y = self.t["trigram.block.weight"] @ x + self.t["trigram.block.bias"]
        x = self.t["trigram.out.weight"] @ (x + y * sigmoid(y))
        norm, epsilon = self.t["block.0.attn_norm.weight"], self.shape["norm_epsilon"]
        shown = rms(state[:width], norm, epsilon)
        x = self._block("block.0.", x, rms(x, norm, epsilon), self.cache[0], shown)
        return np.concatenate([x, state[-width:]])

    def _path(self, state, e, own):
        """What medusa and hydra hand down: the state before the root, with the block over the text in Hydra++, and in
        hydra the embeddings of the tokens from the root on.
        """
        if not own and self.shape["blocks"]:
            into = rms(state, self.t["block.0.attn_norm.weight"], self.shape["norm_epsilon"])
            state = self._block("block.0.", state, into, self.cache[0])
            state = rms(state, self.t["norm.weight"], self.shape["norm_epsilon"])
        return np.concatenate([state, e]) if self.shape["family"] == "hydra" else state

    def _stack_logits(self, x, depth):
        def linear(name):
            return self.t[name + ".weight"] @ x + self.t[name + ".bias"]

        name = f"{self.shape['family']}.{depth}."
        if self.shape["family"] == "hydra":
            x = linear(name + "skip") + (y := linear(name + "in")) * sigmoid(y)
        for index in range(8):
            if f"{name}block.{index}.weight" in self.t:
                x = x + (y := linear(f"{name}block.{index}")) * sigmoid(y)
        return self.t.get(name + "head.weight", self.t.get("head.weight")) @ x

    def logits(self, state, depth=0):
        if self.shape["family"] in ("medusa", "hydra"):
            return self._stack_logits(state, depth)
        if self.shape["family"] in ("eagle3", "kangaroo"):
            state = rms(state, self.t["norm.weight"], self.shape["norm_epsilon"])
        head = self.t["head.weight"]
        return head @ state[: head.shape[1]]

    def _block(self, name, x, into, cache, shown=None):
        t, s = self.t, self.shape
        shown = into if shown is None else shown
        position, dim = len(cache[0]), s["head_dim"]
        q = rotate((t[name + "q.weight"] @ into).reshape(s["heads"], dim), position, s["rope_base"])
        cache[0].append(rotate((t[name + "k.weight"] @ shown).reshape(s["kv_heads"], dim), position, s["rope_base"]))
        cache[1].append((t[name + "v.weight"] @ shown).reshape(s["kv_heads"], dim))
        out = []
        for head in range(s["heads"]):
            group = head // (s["heads"] // s["kv_heads"])
            scores = np.array([key[group] @ q[head] for key in cache[0]]) / np.sqrt(dim)
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            out.append(sum(w * value[group] for w, value in zip(weights, cache[1], strict=True)))
        h = x + t[name + "o.weight"] @ np.concatenate(out)
        if name + "gate.weight" not in t:
            return h
        y = rms(h, t[name + "ffn_norm.weight"], s["norm_epsilon"])
        gate = t[name + "gate.weight"] @ y
        return h + t[name + "down.weight"] @ (gate * sigmoid(gate) * (t[name + "up.weight"] @ y))
