"""The Engine: a target model, what drafts for it, and ways to generate."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forerun import _core, chat, models
from forerun._core import Session
from forerun.stream import Stream
from forerun.types import Completion, Sampling, Stats

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]

DRAFT_KINDS = ("none", "auto", "ngram", "recycle", "model:")


class Engine:
    """A loaded target model with its drafter.

    target: a .gguf file, a Hugging Face folder (config.json, safetensors, tokenizer.json) or the name of a
        pulled model.
    draft: "none", "auto" (what the measured costs favour), "ngram" (prompt lookup), "recycle" (Token
        Recycling), "model:PATH-or-name" (a small model with the same vocabulary), or several joined by "+".
        It changes the speed, never the text.
    threads: worker threads; None takes the usable cores.
    context: longest sequence in tokens; None takes the model's own, within reason.
    progress: called with the loaded share, 0 to 1.

    Thread-safe: several threads may generate at once. Use it as a context manager, or call `close()`.

    Raises forerun.ModelFileError for a malformed file, NotImplementedError for an unsupported model,
    ValueError for anything else that is wrong in the arguments, MemoryError.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        draft: str = "auto",
        *,
        threads: int | None = None,
        context: int | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        self._native: _core.Engine | None = None
        self._running: weakref.WeakSet[threading.Event] = weakref.WeakSet()
        _check_count("threads", threads, low=1)
        _check_count("context", context, low=1)
        self._native = _core.Engine(
            models.resolve(target),
            draft=resolve_draft(draft),
            threads=threads,
            context=context,
            progress=progress,
        )

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int = 256,
        sampling: Sampling | Mapping[str, Any] | None = None,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        logprobs: int | None = None,
    ) -> Completion:
        """Generates until an end token, a stop string, `max_tokens` or the end of the context.

        prompt: text, token ids, or chat messages [{"role": ..., "content": ...}, ...], which go through the
            model's own chat template.
        sampling: a Sampling or a dict of its fields; None is greedy.
        stop: strings that end the text; they are not part of it.
        seed: with temperature above 0, picks the text: one seed, one text.
        logprobs: None, or how many alternatives to report per token (0: only the token's own).

        Ctrl-C interrupts it at the next step with KeyboardInterrupt.
        """
        stream = self.stream(
            prompt,
            max_tokens=max_tokens,
            sampling=sampling,
            stop=stop,
            seed=seed,
            logprobs=logprobs,
        )
        with stream:
            for _ in stream:
                pass
        assert stream.completion is not None
        return stream.completion

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int = 256,
        sampling: Sampling | Mapping[str, Any] | None = None,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        logprobs: int | None = None,
    ) -> Stream:
        """Like `generate`, but returns an iterator over pieces of text as they come.

        Arguments are checked at once; work starts with the first piece asked for. Stopping the iteration
        early stops the work. The Completion is the Stream's `completion` at the end.
        """
        native = self._open()
        text_or_tokens = self._encode_prompt(prompt)
        settings = Sampling.of(sampling).to_dict()
        stops = [stop] if isinstance(stop, str) else list(stop)
        if not all(isinstance(item, str) and item for item in stops):
            raise ValueError(f"stop: expected non-empty strings, found {stops!r}")
        _check_count("max_tokens", max_tokens, low=0, optional=False)
        _check_count("logprobs", logprobs, low=0)
        _check_count("seed", seed, low=0, high=2**64 - 1, optional=False)
        flag = threading.Event()
        self._running.add(flag)

        def work(on_text: Callable[[str], bool]) -> dict[str, Any]:
            return native.generate(
                text_or_tokens,
                max_tokens=max_tokens,
                sampling=settings,
                stop=stops,
                seed=seed,
                logprobs=logprobs,
                on_text=on_text,
            )

        return Stream(work, flag)

    def session(
        self, *, seed: int = 0, sampling: Sampling | Mapping[str, Any] | None = None
    ) -> Session:
        """A timeline under the caller's control: append, step, rewind, fork. Not thread-safe."""
        _check_count("seed", seed, low=0, high=2**64 - 1, optional=False)
        return self._open().session(seed=seed, sampling=Sampling.of(sampling).to_dict())

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The prompt that the model's chat template makes of `messages`, as text.

        Raises ValueError when the model has no template or the template refuses the messages.
        """
        tokenizer = self.tokenizer
        return chat.render(
            tokenizer.chat_template,
            messages,
            bos_token=_piece(tokenizer, tokenizer.bos),
            eos_token=_piece(tokenizer, tokenizer.eos),
            **variables,
        )

    @property
    def tokenizer(self) -> _core.Tokenizer:
        return self._open().tokenizer

    @property
    def info(self) -> dict[str, Any]:
        """What was loaded: architecture, parameters, weights_bytes, context, threads, isa, draft, ..."""
        return self._open().info

    @property
    def stats(self) -> Stats:
        """Sums over all generations of this engine so far."""
        return Stats.of(self._open().stats)

    @property
    def native(self) -> _core.Engine:
        """The native engine, for measuring."""
        return self._open()

    def close(self) -> None:
        """Stops running generations and frees the models. May be called twice."""
        for flag in list(self._running):
            flag.set()
        self._native = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._native is None:
            return "<forerun.Engine, closed>"
        info = self._native.info
        return f"<forerun.Engine {info.get('architecture')}, draft {info.get('draft')}>"

    def _open(self) -> _core.Engine:
        if self._native is None:
            raise ValueError("this engine is closed")
        return self._native

    def _encode_prompt(self, prompt: Prompt) -> str | list[int]:
        if isinstance(prompt, str):
            return prompt
        if isinstance(prompt, (bytes, Mapping)) or not hasattr(prompt, "__len__"):
            raise ValueError(
                "prompt: expected text, token ids or a list of messages, "
                f"found {type(prompt).__name__}"
            )
        items = list(prompt)
        if items and all(isinstance(item, Mapping) for item in items):
            return self.tokenizer.encode(self.render(items), add_special=False)
        for index, item in enumerate(items):
            if isinstance(item, bool) or not hasattr(item, "__index__"):
                raise ValueError(
                    f"prompt[{index}]: expected a token id or a message, found {item!r}"
                )
        return [item.__index__() for item in items]


def resolve_draft(draft: str) -> str:
    """Replaces the names of pulled models in a draft specification by their paths.

    Raises ValueError for a kind that does not exist.
    """
    if not isinstance(draft, str):
        raise ValueError(f"draft: expected a string, found {type(draft).__name__}")
    kinds = "|".join(re.escape(kind) for kind in DRAFT_KINDS)
    resolved = []
    for piece in re.split(rf"\+(?={kinds})", draft):
        if piece.startswith("model:") and piece != "model:":
            resolved.append("model:" + models.resolve(piece.removeprefix("model:")))
        elif piece in DRAFT_KINDS and piece != "model:":
            resolved.append(piece)
        else:
            raise ValueError(
                f"draft: expected none, auto, ngram, recycle, model:PATH or several joined by '+', "
                f"found {piece!r}"
            )
    return "+".join(resolved)


def _piece(tokenizer: _core.Tokenizer, token: int) -> str:
    return tokenizer.decode([token], special=True) if token is not None and token >= 0 else ""


def _check_count(
    name: str, value: Any, low: int, high: int | None = None, optional: bool = True
) -> None:
    if value is None and optional:
        return
    bounds = f"from {low} up" if high is None else f"from {low} to {high}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name}: expected an integer {bounds}, found {value!r}")
    if value.__index__() < low or (high is not None and value.__index__() > high):
        raise ValueError(f"{name}: expected an integer {bounds}, found {value!r}")
