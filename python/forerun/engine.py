"""The Engine: a target model, what drafts for it, and ways to generate."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from forerun import _core, chat, models
from forerun.checks import INT32, INT64, check_count, check_number, check_text, integers, token_ids
from forerun.draft_names import head_folders, resolve_draft
from forerun.placement import Placement, Plan, bytes_of, placement_text, profile_folder
from forerun.profile import Profile
from forerun.request import Request
from forerun.session import Session
from forerun.stream import Stream
from forerun.types import Alternative, Completion, Features, Sampling, Stats

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]


class Engine:
    """A loaded target model with its drafter.

    target: a .gguf file, a Hugging Face folder (config.json, safetensors, tokenizer.json) or the name of a
        pulled model.
    draft: "none", "auto" (what the measured costs favour), or names of `forerun.drafters()` joined by "+",
        such as "ngram+recycle", "model:PATH-or-name" (a small model with the same vocabulary) or "head:PATH-or-name"
        (a draft file, trained on the target's hidden states; "auto" uses the one that lies in the cache folder
        `models.heads_dir()`, or comes with the package, for the target).
        With verify "match" it changes the speed, never the text.
    threads: worker threads; None takes the usable cores.
    context: longest sequence in tokens; None takes what the model was trained for.
    max_draft: most draft tokens checked in one step, 0 to 127.
    fixed_draft: that many draft tokens in every step, whatever they cost; None lets measured costs decide.
    policy: how the tree of a draft model, a head or early-exit grows, a name of `forerun.policies()`.
    verify: which branch of the tree is kept, a name of `forerun.verifiers()`. "match" keeps the text of plain
        decoding; those that test p / q keep its distribution and need draws (docs/methods.md); lossy ones say so.
    method_options: options of the methods in use, {"NAME.option": value}.
    device: where target and draft run, "cpu" or "cuda" (the first NVIDIA GPU; needs libforerun_cuda.so).
    placement: which device holds what, instead of `device`: "auto" (the best plan of `forerun.plan`), "dovetail"
        (the draft on a device of its own), a device ("cpu", "cpu:0-3", "cuda:0"), a dict such as
        {"layers": {"0-21": "cpu", "22-27": "cuda:0"}, "draft": "cuda:0"}, a Plan, or a file with one.
    vram_limit, ram_limit: memory of a GPU and of the host that target and draft may take, in bytes or "3GiB".
    overlap: a draft on a device of its own drafts on while the target verifies.
    kv_type: how keys and values are kept: "f16", "f32" or "q8_0" (half of f16's memory). Another type may give
        another text; within one type the text never depends on anything else here.
    prefix_cache_bytes: memory for keys and values of prompts that begin the same way.
    max_batch: most requests of `submit` that run at once, 1 to 64. max_queue: most that wait to run.
    kv_bytes: memory that the keys and values of running ones may come to need; None sets no limit.
    record_taps, record_top_k: what completions bring along for training a draft (`Completion.features`), taken as
        the answer is written: hidden states and so many likeliest next tokens, as `features` gives them. Prompts are
        then read whole, whatever `prefix_cache_bytes` keeps.
    profile: record when every operation ran, for `profile()`.
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
        max_draft: int = 48,
        fixed_draft: int | None = None,
        policy: str = "auto",
        verify: str = "match",
        method_options: Mapping[str, Any] | None = None,
        prefix_cache_bytes: int = 512 << 20,
        device: str = "cpu",
        placement: Placement | Plan | None = None,
        vram_limit: str | int | None = None,
        ram_limit: str | int | None = None,
        overlap: bool = True,
        kv_type: str = "f16",
        max_batch: int = 8,
        max_queue: int = 256,
        kv_bytes: int | None = None,
        record_taps: Sequence[int] = (),
        record_top_k: int = 0,
        profile: bool = False,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        self._native: _core.Engine | None = None
        self._running: weakref.WeakSet[threading.Event] = weakref.WeakSet()
        self._requests: weakref.WeakSet[Request] = weakref.WeakSet()
        check_count("threads", threads, low=1)
        check_count("context", context, low=1)
        check_count("max_draft", max_draft, low=0, optional=False)
        check_count("fixed_draft", fixed_draft, low=0)
        if fixed_draft is not None and fixed_draft > max_draft:
            raise ValueError(f"fixed_draft: {fixed_draft} is above max_draft, {max_draft}; raise that too")
        check_count("prefix_cache_bytes", prefix_cache_bytes, low=0, high=INT64, optional=False)
        check_count("max_batch", max_batch, low=1, high=64, optional=False)
        check_count("max_queue", max_queue, low=1, optional=False)
        check_count("kv_bytes", kv_bytes, low=1, high=INT64)
        check_count("record_top_k", record_top_k, low=0, optional=False)
        for name, choice in (("policy", policy), ("verify", verify), ("device", device), ("kv_type", kv_type)):
            check_text(name, choice)
        self._native = _core.Engine(
            models.resolve(target),
            draft=resolve_draft(draft),
            heads=[str(folder) for folder in head_folders()],
            threads=threads,
            context=context,
            max_draft=max_draft,
            fixed_draft=fixed_draft,
            policy=policy,
            verify=verify,
            method_options=_method_options(method_options),
            prefix_cache_bytes=prefix_cache_bytes,
            device=device,
            placement=placement_text(placement),
            vram_limit=bytes_of("vram_limit", vram_limit),
            ram_limit=bytes_of("ram_limit", ram_limit),
            overlap=overlap,
            cache=profile_folder(),
            kv_type=kv_type,
            max_batch=max_batch,
            max_queue=max_queue,
            kv_bytes=kv_bytes or 0,
            record_taps=integers("record_taps", record_taps, low=-1),
            record_top_k=record_top_k,
            profile=profile,
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
        tenant: str = "",
    ) -> Completion:
        """Generates until an end token, a stop string, `max_tokens` or the end of the context.

        prompt: text, token ids, or chat messages [{"role": ..., "content": ...}, ...], which go through the
            model's own chat template.
        sampling: a Sampling or a dict of its fields; None is greedy.
        stop: strings that end the text; they are not part of it.
        seed: with temperature above 0, picks the text: one seed, one text.
        logprobs: None, or how many alternatives to report per token (0: only the token's own).
        tenant: drafters make use of earlier requests of the same tenant only.

        Ctrl-C interrupts it at the next step with KeyboardInterrupt.
        """
        stream = self.stream(
            prompt,
            max_tokens=max_tokens,
            sampling=sampling,
            stop=stop,
            seed=seed,
            logprobs=logprobs,
            tenant=tenant,
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
        tenant: str = "",
    ) -> Stream:
        """Like `generate`, but returns an iterator over pieces of text as they come.

        Arguments are checked at once; work starts with the first piece asked for. Stopping the iteration
        early stops the work. The Completion is the Stream's `completion` at the end.
        """
        native = self._open()
        text_or_tokens = self._encode_prompt(prompt)
        settings = Sampling.of(sampling).to_dict()
        stops = _check_request(max_tokens, stop, seed, logprobs)
        check_text("tenant", tenant)
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
                tenant=tenant,
            )

        return Stream(work, flag)

    def complete_many(
        self,
        prompt: str,
        count: int = 3,
        *,
        max_tokens: int = 16,
        ngram_weight: float = 0.5,
        corpus: str = "",
        stop: str | Sequence[str] = (),
    ) -> list[Alternative]:
        """`count` short continuations, best first, for the time of one: for autocompletion.

        Superposed Decoding (Shen et al., arXiv 2405.18400): the continuations share one forward a token and
        are told apart by their n-grams. They are not what the model would write; for that use `generate`.

        count: 1 to 32. max_tokens: of each; quality falls with length. ngram_weight: 0 to 1, how much the
        n-grams of the prompt and of `corpus` count; a corpus of the kind of text that is written helps.
        stop: strings before which a continuation ends.
        """
        native = self._open()
        check_count("count", count, low=1, high=32, optional=False)
        check_count("max_tokens", max_tokens, low=1, optional=False)
        check_number("ngram_weight", ngram_weight, low=0.0, high=1.0)
        found = native.complete_many(
            check_text("prompt", prompt),
            count=count,
            max_tokens=max_tokens,
            ngram_weight=ngram_weight,
            corpus=check_text("corpus", corpus),
            stop=_stops(stop),
        )
        return [Alternative(**one) for one in found]

    def submit(
        self,
        prompt: Prompt,
        *,
        max_tokens: int = 256,
        sampling: Sampling | Mapping[str, Any] | None = None,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        logprobs: int | None = None,
        priority: int = 0,
        wait: bool = False,
        tenant: str = "",
    ) -> Request:
        """Hands a request to the engine's batch and returns at once; each gets the text that `generate` gives.

        Requests enter and leave the batch between steps, `max_batch` at a time. The other arguments are those
        of `generate`.

        priority: the larger goes first; waiting raises it, so none waits for ever.
        wait: when the queue is full, wait for a place instead of raising forerun.QueueFullError.

        Raises ValueError for a request that could never run.
        """
        native = self._open()
        stops = _check_request(max_tokens, stop, seed, logprobs)
        check_count("priority", priority, low=-INT32, high=INT32, optional=False)
        check_text("tenant", tenant)
        request = native.submit(
            self._encode_prompt(prompt),
            max_tokens=max_tokens,
            sampling=Sampling.of(sampling).to_dict(),
            stop=stops,
            seed=seed,
            logprobs=logprobs,
            priority=priority,
            wait=wait,
            tenant=tenant,
        )
        made = Request(request, logprobs is not None)
        self._requests.add(made)
        return made

    def session(
        self,
        *,
        sampling: Sampling | Mapping[str, Any] | None = None,
        seed: int = 0,
        logprobs: int | None = None,
        tenant: str = "",
    ) -> Session:
        """A timeline under the caller's control: append, step, rewind, fork."""
        native = self._open()
        check_count("seed", seed, low=0, high=2**64 - 1, optional=False)
        check_count("logprobs", logprobs, low=0)
        check_text("tenant", tenant)
        settings = Sampling.of(sampling).to_dict()
        return Session(native, native.session(sampling=settings, seed=seed, logprobs=logprobs, tenant=tenant))

    def features(
        self, tokens: Sequence[int], *, taps: Sequence[int] = (-1,), top_k: int = 0, first_law: int = 0
    ) -> Features:
        """What a draft is trained on: hidden states of a text and the target's next-token laws.

        taps: -1 is the hidden state after the final norm (the head's input), l >= 0 the residual stream that enters
            layer l. top_k: most likely next tokens to report after each token from number `first_law` on.

        Raises ValueError for a tap that the target does not have and for more tokens than its context.
        Other threads may use the engine meanwhile.
        """
        check_count("top_k", top_k, low=0, optional=False)
        check_count("first_law", first_law, low=0, optional=False)
        ids = token_ids("tokens", tokens)
        return Features(*self._open().features(ids, integers("taps", taps, low=-1), top_k, first_law))

    def layer_agreement(self, tokens: Sequence[int], sets: Sequence[Sequence[int]]) -> list[float]:
        """How well parts of the target stand in for it: per set of layers, ascending, the share of the tokens after
        which these layers alone would choose what the target chooses.

        It is the acceptance rate of the first guess of draft="early-exit" with the other layers skipped. One pass
        per set. Raises ValueError for layers that do not rise or that the target lacks, and for more tokens than
        its context. See `forerun.layers.choose`.
        """
        if isinstance(sets, str) or not isinstance(sets, Iterable):
            raise ValueError(f"sets: expected lists of layers, found {sets!r}")
        layers = [integers(f"layers of sets[{index}]", one, low=0) for index, one in enumerate(sets)]
        return self._open().layer_agreement(token_ids("tokens", tokens), layers)

    def parallel_agreement(self, tokens: Sequence[int], groupings: Sequence[str]) -> list[float]:
        """What it costs a model to compute the attention of some layers side by side (EasySpec): per grouping, such as
        "4" or "1-4,5-8" (the option model.parallel_layers), the share of the tokens after which the model so grouped
        would choose what it chooses. Of a draft model, opened as the target.

        The text before every token is exact, as it is for the first guess that a draft makes with the grouping. One
        pass per grouping. Raises ValueError for groups that the model cannot have and for more tokens than its
        context. See `forerun.layers.parallel`.
        """
        if isinstance(groupings, str) or not isinstance(groupings, Iterable):
            raise ValueError(f"groupings: expected a list of texts such as '4' or '1-4,5-8', found {groupings!r}")
        for grouping in groupings:
            if not isinstance(grouping, str):
                raise ValueError(f"groupings holds {grouping!r}, expected texts such as '4' or '1-4,5-8'")
        return self._open().parallel_agreement(token_ids("tokens", tokens), list(groupings))

    def save_drafts(self, path: str | os.PathLike[str]) -> None:
        """Writes what the drafters have learnt so far, for a later engine's `method_options`:
        {"suffix.state": path, "trigram.state": path}. The file holds texts of earlier requests.

        Raises ValueError when no drafter in use learns (suffix, recycle and trigram do).
        """
        self._open().save_drafts(os.fspath(path))

    def replace_head(self, path: str | os.PathLike[str]) -> None:
        """Has requests and sessions that begin from now on draft with another file of draft="head:FILE"; those under
        way keep theirs. The text does not change.

        Raises ValueError when no head is in use, or the file's was made for another target or reads other hidden
        states, and forerun.ModelFileError for a malformed file.
        """
        self._open().replace_head(os.fspath(path))

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The prompt that the model's chat template makes of `messages`, as text.

        Raises ValueError when the model has no template or the template refuses the messages.
        """
        native = self._open()
        return chat.render(
            native.chat_template,
            messages,
            bos_token=_token_text(native, native.bos_token),
            eos_token=_token_text(native, native.eos_token),
            **variables,
        )

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Text to token ids.

        add_special: BOS and EOS where the model's rules ask for them. parse_special: "<|im_start|>" in the
        text means the special token; otherwise it stays text.
        """
        return self._open().encode(check_text("text", text), add_special=add_special, parse_special=parse_special)

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Token ids to text; invalid UTF-8 is replaced. special: show special tokens by name."""
        data = self._open().decode(token_ids("tokens", tokens), special=special)
        return data.decode("utf-8", errors="replace")

    @property
    def chat_template(self) -> str:
        """The model's Jinja template, empty when it has none."""
        return self._open().chat_template

    @property
    def end_tokens(self) -> list[int]:
        """The ids that end a generation."""
        return self._open().end_tokens

    @property
    def info(self) -> dict[str, Any]:
        """What was loaded: architecture, parameters, weights_bytes, context, threads, draft, kv_type, ..."""
        return self._open().info

    @property
    def stats(self) -> Stats:
        """Sums over all generations of this engine so far."""
        return Stats.of(self._open().stats)

    def profile(self) -> Profile:
        """What was recorded since the last call, the newest 2**18 spans.

        Raises ValueError when the engine was made without `profile=True`.
        """
        return Profile(self._open().profile())

    @property
    def native(self) -> _core.Engine:
        """The native engine, for measuring."""
        return self._open()

    def close(self) -> None:
        """Stops running generations and requests; frees the models when no Session needs them any more. May be called
        twice.
        """
        for flag in list(self._running):
            flag.set()
        for request in list(self._requests):
            request.cancel()
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
            return check_text("prompt", prompt)
        if isinstance(prompt, (bytes, Mapping)) or not hasattr(prompt, "__len__"):
            raise ValueError(f"prompt: expected text, token ids or a list of messages, found {type(prompt).__name__}")
        items = list(prompt)
        if items and all(isinstance(item, Mapping) for item in items):
            return self.encode(self.render(items), add_special=False)
        return token_ids("prompt", items)


def _method_options(options: Mapping[str, Any] | None) -> dict[str, str]:
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f'method_options: expected a dict of "NAME.option" to value, found {options!r}')
    return {str(name): str(value) for name, value in (options or {}).items()}


def _check_request(max_tokens: Any, stop: Any, seed: Any, logprobs: Any) -> list[str]:
    stops = _stops(stop)
    check_count("max_tokens", max_tokens, low=0, optional=False)
    check_count("logprobs", logprobs, low=0)
    check_count("seed", seed, low=0, high=2**64 - 1, optional=False)
    return stops


def _stops(stop: str | Sequence[str]) -> list[str]:
    listed = isinstance(stop, Iterable) and not isinstance(stop, (bytes, Mapping))
    stops = [stop] if isinstance(stop, str) else list(stop) if listed else [stop]
    if not all(isinstance(item, str) and item for item in stops):
        raise ValueError(f"stop: expected non-empty strings, found {stops!r}")
    return [check_text("stop", item) for item in stops]


def _token_text(native: _core.Engine, token: int) -> str:
    return native.token_text(token).decode("utf-8", errors="replace") if token >= 0 else ""
