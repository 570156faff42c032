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
        self.states, self.rows, self.drafted = [], [], 0  # falcon's: read by its rows, what they are, since the text

    def fork(self):
        other = Chain({}, self.shape, self.embedding)
        other.t, other.cache = self.t, [(list(keys), list(values)) for keys, values in self.cache]
        other.last, other.states, other.rows = list(self.last), list(self.states), list(self.rows)
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
        elif family == "falcon":
            return self._span(state, token, own)
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

    def _span(self, state, token, own):
        """What falcon hands down: the last states that a span of rows read, and those that it made."""
        span, width = self.shape["span"], self.shape["width"]
        self.last.append(token)
        self.drafted = self.drafted + 1 if own else 0
        if self.drafted % span:
            return state
        self.states += list(state.reshape(-1, width)[-span:])
        while len(self.rows) < len(self.states):
            self.rows.append(self._lstm(len(self.rows)))
            self._show("block.0.", self.rows[-1], self.cache[0])
        made = []
        for row in range(len(self.states) - span, len(self.states)):
            x = self._lstm(row) if row < 0 else self.rows[row]
            made.append(self._read("block.0.", x, x, row, self.cache[0]))
        read = [self.states[max(0, len(self.states) - back)] for back in range(span - 1, 0, -1)]
        return np.concatenate([*read, *made])

    def _lstm(self, row):
        places = range(row + 1 - self.shape["span"], row + 1)
        rows = [np.concatenate([self.embedding[self.last[max(0, at + 1)]], self.states[max(0, at)]]) for at in places]
        for layer in range(2):
            inside, hidden = self.t[f"lstm.{layer}.in.weight"], self.t[f"lstm.{layer}.hidden.weight"]
            out = cell = np.zeros(hidden.shape[1])
            for index, x in enumerate(rows):
                gates = inside @ x + self.t.get(f"lstm.{layer}.in.bias", 0) + hidden @ out
                keep, forget, fresh, show = gates.reshape(4, -1)
                cell = sigmoid(forget) * cell + sigmoid(keep) * np.tanh(fresh)
                rows[index] = out = sigmoid(show) * np.tanh(cell)
        return rows[-1]

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
        if self.shape["family"] == "falcon":
            place = self.shape["span"] - 1 + depth % self.shape["span"]
            return head @ state.reshape(-1, self.shape["width"])[place]
        return head @ state[: head.shape[1]]

    def _block(self, name, x, into, cache, shown=None):
        self._show(name, into if shown is None else shown, cache)
        return self._read(name, x, into, len(cache[0]) - 1, cache)

    def _show(self, name, shown, cache):
        t, s = self.t, self.shape
        keys = (t[name + "k.weight"] @ shown).reshape(s["kv_heads"], s["head_dim"])
        cache[0].append(rotate(keys, len(cache[0]), s["rope_base"]))
        cache[1].append((t[name + "v.weight"] @ shown).reshape(s["kv_heads"], s["head_dim"]))

    def _read(self, name, x, into, position, cache):
        t, s = self.t, self.shape
        dim = s["head_dim"]
        q = rotate((t[name + "q.weight"] @ into).reshape(s["heads"], dim), position, s["rope_base"])
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
