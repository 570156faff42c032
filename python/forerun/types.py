"""What goes into a generation and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

from forerun.checks import check_count, check_number


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the defaults take the likeliest one (greedy).

    The token is the arg max of logit / temperature + Gumbel noise of (seed, position, token), after the
    filters: a seeded sample that depends on nothing else, so speculation cannot change it.

    temperature: 0 is greedy; larger is more random.
    top_k: keep the k likeliest tokens; 0 keeps all.
    top_p: keep the smallest set of likeliest tokens whose probabilities sum to at least this; 1 keeps all.
    min_p: keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    repetition_penalty: divides positive and multiplies negative logits of seen tokens; 1 is off.
    frequency_penalty, presence_penalty: subtracted per occurrence, or once, of a generated token; 0 is off.
    logit_bias: added to the logits of these token ids; minus infinity forbids one.

    Raises ValueError for a value out of range or not finite.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, low=0.0)
        check_count("top_k", self.top_k, low=0, optional=False)
        check_number("top_p", self.top_p, low=0.0, high=1.0)
        if self.top_p == 0:
            raise ValueError("top_p: expected a number above 0 and up to 1, found 0")
        check_number("min_p", self.min_p, low=0.0, high=1.0)
        check_number("repetition_penalty", self.repetition_penalty, low=0.0)
        if self.repetition_penalty == 0:
            raise ValueError("repetition_penalty: expected a number above 0, found 0")
        check_number("frequency_penalty", self.frequency_penalty)
        check_number("presence_penalty", self.presence_penalty)
        if not isinstance(self.logit_bias, Mapping):
            raise ValueError(f"logit_bias: expected a dict of id to number, found {self.logit_bias!r}")
        for token, bias in self.logit_bias.items():
            check_count("logit_bias: token id", token, low=0, optional=False)
            if bias != -math.inf:
                check_number(f"logit_bias[{token}]", bias)

    @classmethod
    def of(cls, value: Sampling | Mapping[str, Any] | None) -> Sampling:
        """A Sampling from itself, from a mapping of its fields, or the default from None."""
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"sampling: expected a Sampling or a dict, found {type(value).__name__}")
        known = {item.name for item in fields(cls)}
        unknown = sorted(str(name) for name in value if name not in known)
        if unknown:
            raise ValueError(f"sampling: unknown {', '.join(unknown)}; expected some of {', '.join(sorted(known))}")
        return cls(**value)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "logit_bias": dict(self.logit_bias)}


@dataclass(frozen=True)
class Stats:
    """Counts and times of one generation, or of an engine's life.

    steps: target forwards after prefill. tokens: tokens generated. drafted, accepted: draft tokens checked
    and kept. tau: tokens per step, 1 + accepted / steps. tried_by_depth: steps whose draft reached depth 1,
    2, ...; acceptance_by_depth: of those, the share whose accepted path did. prompt_tokens, reused_tokens:
    length of the prompt and how much of it was still in the KV cache. draft_seconds, verify_seconds: the
    parts of decode_seconds spent drafting and in target forwards. lossy: False unless a mode was asked for
    that may change the text. draft_failure: why the draft was given up (its device failed or was full), after
    which the text went on without it; else empty.
    """

    steps: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    tau: float = 0.0
    acceptance_by_depth: list[float] = field(default_factory=list)
    tried_by_depth: list[int] = field(default_factory=list)
    prompt_tokens: int = 0
    reused_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    lossy: bool = False
    draft_failure: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Stats:
        return cls(**{item.name: values[item.name] for item in fields(cls) if item.name in values})

    @property
    def acceptance_rate(self) -> float:
        """Accepted of drafted tokens; 0 when nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second of decoding; prefill is not counted. 0 when nothing was decoded."""
        return self.tokens / self.decode_seconds if self.decode_seconds > 0 else 0.0

    @property
    def tokens_per_second_total(self) -> float:
        """Generated tokens per second of prefill and decoding together."""
        seconds = self.prefill_seconds + self.decode_seconds
        return self.tokens / seconds if seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "tokens_per_second": self.tokens_per_second,
            "tokens_per_second_total": self.tokens_per_second_total,
        }


@dataclass(frozen=True)
class TreeNode:
    """A guess. parent: index of a node before it, -1 for the root. score: the drafter's estimate that it is
    accepted, given that its parent is. source: the drafter that proposed it."""

    token: int
    parent: int
    score: float
    source: str


@dataclass(frozen=True)
class StepTree:
    """The draft tree of a step and what became of it.

    nodes: the first is the root, the token before the step. path: indices of the accepted nodes, root first.
    bonus: the target's token after the path.
    """

    nodes: list[TreeNode]
    path: list[int]
    bonus: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> StepTree:
        nodes = [TreeNode(**node) for node in values["nodes"]]
        return cls(nodes=nodes, path=list(values["path"]), bonus=values["bonus"])


class Features(NamedTuple):
    """What a target shows of n tokens, for training a draft.

    states: float16 [n, taps * width], a row holding one tap after another; a value that does not fit is the largest.
    top_tokens, top_logprobs: int32 and float32 [tokens with a law, k], most likely first.
    """

    states: NDArray[numpy.float16]
    top_tokens: NDArray[numpy.int32]
    top_logprobs: NDArray[numpy.float32]


@dataclass(frozen=True)
class Completion:
    """A finished generation.

    finish_reason: "stop" (an end token or a stop string), "length" (max_tokens), "context" (no room left)
    or "cancelled". tokens holds all emitted ids, text their characters up to a stop string. logprobs is
    None unless asked for, else one {"token", "logprob", "top": [(id, logprob), ...]} per token, of the model
    itself: before penalties, temperature and filters. features is None unless the engine records them: of prompt and
    answer but the last token, with laws from the prompt's last token on.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    logprobs: list[Any] | None
    stats: Stats
    features: Features | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Completion:
        return cls(
            text=values["text"],
            tokens=list(values["tokens"]),
            finish_reason=values["finish_reason"],
            logprobs=values.get("logprobs"),
            stats=Stats.of(values["stats"]),
            features=Features(*values["features"]) if values.get("features") else None,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "tokens": self.tokens,
            "finish_reason": self.finish_reason,
            "logprobs": self.logprobs,
            "stats": self.stats.to_dict(),
        }


@dataclass(frozen=True)
class Alternative:
    """One of several short continuations (`Engine.complete_many`).

    score: the sum of the log-probabilities that the continuations share, with the n-grams' part; good for
    ordering them, not the model's own. finish_reason: "stop" or "length". tokens holds an end token too.
    """

    text: str
    tokens: list[int]
    score: float
    finish_reason: str
