"""Draft trees as a standalone HTML page: one drawing per step, nothing loaded from elsewhere.

A tree grows to the right, one column per depth. A node lies in the row of its parent's first child, and what was kept
comes first, then the likelier guesses: the kept text reads as a straight line, what was rejected branches off below
it, and no two edges cross.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from forerun.engine import Engine
from forerun.types import Sampling, StepTree

TARGET_TOP = 20  # alternatives of the target that are asked for, to explain what was rejected
PROMPT_TAIL = 400  # characters
_LONGEST = 24  # characters of a token in a drawing
_CHAR, _PADDING, _HEIGHT, _ROW, _GAP, _BEND, _MARGIN = 7.8, 10, 24, 36, 52, 12, 8  # pixels
_VISIBLE = {" ": "\u00b7", "\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d"}
_SOURCES = ("ngram", "suffix", "recycle", "trigram", "retrieval", "model", "early-exit", "head", "other")


@dataclass(frozen=True)
class Token:
    """raw: its characters; text: the same with whitespace and control characters visible."""

    id: int
    raw: str
    special: bool

    @property
    def text(self) -> str:
        return "".join(_VISIBLE.get(char) or (char if char.isprintable() else repr(char)[1:-1]) for char in self.raw)

    @property
    def short(self) -> str:
        return self.text if len(self.text) <= _LONGEST else self.text[: _LONGEST - 1] + "\u2026"


@dataclass(frozen=True)
class Step:
    """tokens: of the tree's nodes and, last, of the bonus. target: for each accepted node, the probabilities that
    the model itself gave to the likeliest tokens after it."""

    number: int
    tree: StepTree
    tokens: list[Token]
    target: list[dict[int, float]]

    @property
    def bonus_node(self) -> int:
        """The guess that is the bonus: an end token closes the text where it was guessed. Else one more node."""
        nodes = self.tree.nodes
        same = (
            index
            for index, node in enumerate(nodes)
            if node.parent == self.tree.path[-1] and node.token == self.tree.bonus
        )
        return next(same, len(nodes))

    @property
    def emitted(self) -> list[int]:
        """Indices into `tokens`."""
        return [*self.tree.path[1:], len(self.tokens) - 1]


@dataclass(frozen=True)
class Growth:
    """A prompt, the text of the steps that are not shown, and those that are."""

    prompt: str
    before: str
    steps: list[Step]
    about: dict[str, str]


def grow(
    engine: Engine,
    prompt: str,
    *,
    first: int = 1,
    steps: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    chat: bool = False,
    about: dict[str, str] | None = None,
) -> Growth:
    """Decodes until `steps` steps from step `first` on are done or the text ends.

    chat: the prompt goes through the model's template. about: what the page says of the settings.
    Raises ValueError when the text ends before step `first`.
    """
    text = engine.render([{"role": "user", "content": prompt}]) if chat else prompt
    session = engine.session(sampling=sampling, seed=seed, logprobs=TARGET_TOP)
    session.append(text, add_special=not chat)
    start = len(session)
    shown: list[Step] = []
    before = ""
    for number in range(1, first + steps):
        session.step()
        tree = session.last_tree()
        assert tree is not None
        if number >= first:
            tokens = [read_token(engine, token) for token in (*(node.token for node in tree.nodes), tree.bonus)]
            target = [
                {token: math.exp(logprob) for token, logprob in [(e["token"], e["logprob"]), *e["top"]]}
                for e in session.logprobs
            ]
            shown.append(Step(number, tree, tokens, target))
        else:
            before = engine.decode(session.tokens[start:], special=True)
        if session.state != "running":
            break
    if not shown:
        raise ValueError(f"the text ended before step {first}")
    return Growth(text, before, shown, about or {})


def read_token(engine: Engine, token: int) -> Token:
    raw = engine.native.token_text(token).decode("utf-8", errors="backslashreplace")
    return Token(token, raw, special=bool(raw) and not engine.native.decode([token], special=False))


def render(growth: Growth) -> str:
    """The page."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("tree_page.html").read_text(encoding="utf-8"))
    steps = growth.steps
    tail = growth.prompt[-PROMPT_TAIL:]
    emitted = sum(len(step.emitted) for step in steps)
    return template.render(
        prompt=tail if len(tail) == len(growth.prompt) else "\u2026" + tail,
        before=growth.before,
        about=growth.about,
        steps=[_Drawing(step).values() for step in steps],
        sources=_legend(steps),
        summary=f"{emitted} tokens in {len(steps)} steps, {emitted / len(steps):.2f} tokens a step",
    )


def _legend(steps: list[Step]) -> list[dict[str, Any]]:
    """Who guessed, how much, and how much of it was kept."""
    counts: dict[str, list[int]] = {}
    for step in steps:
        for index, node in enumerate(step.tree.nodes[1:], start=1):
            entry = counts.setdefault(node.source, [0, 0])
            entry[0] += index in step.tree.path
            entry[1] += 1
    return [
        {"name": name, "style": _style(name), "kept": kept, "guessed": guessed}
        for name, (kept, guessed) in sorted(counts.items())
    ]


def _style(source: str) -> str:
    """The class of a source's colour."""
    return f"s{_SOURCES.index(source) if source in _SOURCES else len(_SOURCES) - 1}"


class _Drawing:
    """Places the nodes of one step; the bonus is one node more unless it was guessed."""

    def __init__(self, step: Step) -> None:
        self.step, self.tree = step, step.tree
        nodes = step.tree.nodes
        self.parent = [node.parent for node in nodes]
        if step.bonus_node == len(nodes):
            self.parent.append(step.tree.path[-1])
        self.depth = [0] * len(self.parent)
        self.children: list[list[int]] = [[] for _ in self.parent]
        for index, parent in enumerate(self.parent):
            if parent >= 0:
                self.depth[index] = self.depth[parent] + 1
                self.children[parent].append(index)
        for row in self.children:
            row.sort(key=lambda index: (not self._is_kept(index), -self._score(index)))
        self.row = [0] * len(self.parent)
        self.rows = self._place()
        self.width = [_PADDING * 2 + _CHAR * _columns(step.tokens[index].short) for index in range(len(self.parent))]
        widest = [0.0] * (max(self.depth) + 1)
        for index, depth in enumerate(self.depth):
            widest[depth] = max(widest[depth], self.width[index])
        self.left = [float(_MARGIN)]
        for width in widest:
            self.left.append(self.left[-1] + width + _GAP)

    def values(self) -> dict[str, Any]:
        step = self.step
        kept = len(self.tree.path) - 1
        guessed = len(self.tree.nodes) - 1
        text = [
            {"token": step.tokens[index], "style": self._strip_style(index), "kind": self._emitted_kind(index)}
            for index in step.emitted
        ]
        return {
            "number": step.number,
            "title": (f"{kept} of {guessed} {_plural('guess', guessed)} kept" if guessed else "nothing guessed")
            + f", {len(step.emitted)} {_plural('token', len(step.emitted))} with the target's own",
            "text": text,
            # What was kept is drawn last, so that its lines lie above the others.
            "nodes": [self._node(index) for index in sorted(range(len(self.parent)), key=self._is_kept)],
            "width": round(self.left[-1] - _GAP + _MARGIN),
            "height": round(self.rows * _ROW + _MARGIN),
            "node_height": _HEIGHT,
        }

    def _place(self) -> int:
        """Gives every node its row, depth first; returns how many rows there are."""
        rows = 0
        stack = [(0, True)]
        while stack:
            index, is_first = stack.pop()
            if is_first:
                self.row[index] = self.row[self.parent[index]] if index else 0
            else:
                rows += 1
                self.row[index] = rows
            stack += [(child, place == 0) for place, child in reversed(list(enumerate(self.children[index])))]
        return rows + 1

    def _node(self, index: int) -> dict[str, Any]:
        x, y = self.left[self.depth[index]], _MARGIN + self.row[index] * _ROW + _HEIGHT / 2
        token = self.step.tokens[index]
        source = self.tree.nodes[index].source if index < len(self.tree.nodes) else ""
        kind = self._kind(index)
        return {
            "token": token,
            "kind": kind,
            "style": _style(source) if kind not in ("root", "bonus") else "",
            "x": round(x, 1),
            "y": y,
            "width": round(self.width[index], 1),
            "length": round(_CHAR * _columns(token.short), 1),
            "edge": self._edge(index, x, y),
            "share": _percent(self._score(index)) if kind not in ("root", "bonus") else "",
            "share_x": round(x - 4, 1),
            "tip": "\n".join(self._tip(index, kind)),
        }

    def _edge(self, index: int, x: float, y: float) -> str:
        parent = self.parent[index]
        if parent < 0:
            return ""
        start = self.left[self.depth[parent]] + self.width[parent]
        above = _MARGIN + self.row[parent] * _ROW + _HEIGHT / 2
        if above == y:
            return f"M{start:.1f} {y:.1f}H{x:.1f}"
        bend = x - _GAP + _BEND
        return f"M{start:.1f} {above:.1f}H{bend - 6:.1f}q6 0 6 6V{y - 6:.1f}q0 6 6 6H{x:.1f}"

    def _is_kept(self, index: int) -> bool:
        return index in self.tree.path or index == self.step.bonus_node

    def _kind(self, index: int) -> str:
        if index == 0:
            return "root"
        if index == self.step.bonus_node:
            return "bonus"
        if index in self.tree.path:
            return "accepted"
        return "rejected" if self.parent[index] in self.tree.path else "unreached"

    def _emitted_kind(self, index: int) -> str:
        return "bonus" if index == len(self.step.tokens) - 1 else "accepted"

    def _strip_style(self, index: int) -> str:
        return _style(self.tree.nodes[index].source) if self._emitted_kind(index) == "accepted" else ""

    def _score(self, index: int) -> float:
        return self.tree.nodes[index].score if index < len(self.tree.nodes) else 1.0

    def _tip(self, index: int, kind: str) -> list[str]:
        token = self.step.tokens[index]
        lines = [f"{token.text}  (id {token.id}{', special' if token.special else ''})"]
        if kind == "root":
            return [*lines, "root: the last token of the text before this step"]
        lines.append(f"depth {self.depth[index]}")
        if index < len(self.tree.nodes):
            lines.append(f"guessed by {self.tree.nodes[index].source}, score {_percent(self._score(index))}")
            lines.append(f"score of the whole branch {_percent(self._branch_score(index))}")
        parent = self.parent[index]
        if parent in self.tree.path:
            place = self.tree.path.index(parent)
            given = self.step.target[place].get(token.id) if place < len(self.step.target) else None
            least = (
                "" if given is not None or place >= len(self.step.target) else f"not among its {TARGET_TOP} likeliest"
            )
            lines.append(f"the target gave it {_percent(given) if given is not None else least}")
        said = {
            "accepted": "accepted: the target's own choice",
            "bonus": "the target's own token after the kept path",
            "rejected": "rejected: the target chose another",
            "unreached": "not reached: a guess before it was rejected",
        }
        return [*lines, said[kind]]

    def _branch_score(self, index: int) -> float:
        product = 1.0
        while index > 0:
            product *= self._score(index)
            index = self.parent[index]
        return product


def _percent(share: float) -> str:
    if 0 < share < 0.01:
        return "<1%"
    return f"{math.floor(share * 100 + 0.5)}%"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + ("es" if word.endswith("s") else "s")


def _columns(text: str) -> int:
    """Width in a fixed-width font: wide characters take two columns, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
