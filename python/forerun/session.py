"""A timeline under the caller's control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forerun import _core
from forerun.checks import check_count, check_text, token_ids
from forerun.types import Stats, StepTree


class Session:
    """Tokens so far, their keys and values, and the drafter's state. Made by `Engine.session()`.

    Cheap to make and to fork; one thread at a time, while several sessions of an engine may run in
    different threads. len() is the number of tokens.
    """

    def __init__(self, engine: _core.Engine, native: _core.Session) -> None:
        self._engine = engine
        self._native = native
        self._last: dict[str, Any] = {"state": "running", "logprobs": []}

    def append(
        self,
        text_or_tokens: str | Sequence[int],
        *,
        add_special: bool | None = None,
        parse_special: bool = True,
    ) -> None:
        """Adds a prompt, a user's turn, or any tokens.

        add_special: whether text gets the model's BOS; None means at the start of the session only.
        parse_special: whether "<|im_start|>" in text means the special token.

        Raises ValueError for an id outside the vocabulary or when the context would overflow; nothing is
        added then.
        """
        if isinstance(text_or_tokens, str):
            special = len(self) == 0 if add_special is None else add_special
            text = check_text("text", text_or_tokens)
            self._native.append(text, add_special=special, parse_special=parse_special)
        else:
            self._native.append(token_ids("tokens", text_or_tokens))
        self._last = {"state": "running", "logprobs": []}

    def step(self, most: int | None = None) -> list[int]:
        """One decode step; returns the tokens it emitted, one or several, at most `most`.

        They are what plain decoding would emit next. `state` and `logprobs` then tell about this step.
        Raises ValueError when the session is empty.
        """
        check_count("most", most, low=1)
        self._last = self._native.step(most)
        return self._last["tokens"]

    @property
    def state(self) -> str:
        """After a step: "running", "end" (its last token is an end token) or "context" (no room left)."""
        return self._last["state"]

    @property
    def logprobs(self) -> list[dict[str, Any]]:
        """Of the last step, one entry per token, when the session was made with `logprobs`."""
        return self._last["logprobs"]

    def last_tree(self) -> StepTree | None:
        """What was guessed in the last step, and what of it was kept; None before the first step."""
        values = self._native.last_tree()
        return StepTree.of(values) if values["nodes"] else None

    def rewind(self, length: int) -> None:
        """Forgets the tokens after the first `length`, as if they had never been."""
        check_count("length", length, low=0, optional=False)
        self._native.rewind(length)
        self._last = {"state": "running", "logprobs": []}

    def fork(self) -> Session:
        """An independent copy; it shares memory until one of the two goes on."""
        return Session(self._engine, self._native.fork())

    @property
    def tokens(self) -> list[int]:
        return self._native.tokens

    @property
    def length(self) -> int:
        return len(self._native)

    @property
    def text(self) -> str:
        """All tokens as text, without special tokens; invalid UTF-8 is replaced."""
        return self._engine.decode(self.tokens).decode("utf-8", errors="replace")

    @property
    def stats(self) -> Stats:
        return Stats.of(self._native.stats)

    def __len__(self) -> int:
        return len(self._native)

    def __repr__(self) -> str:
        return f"<forerun.Session of {len(self)} tokens, {self.state}>"
