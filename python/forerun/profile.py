"""Where the time of decode steps goes: the spans an engine recorded, their sums by operation, a Chrome trace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MEMORY_BOUND = 0.6  # of the read bandwidth
OVERHEAD_US = 5.0  # what starting a parallel region may cost: shorter calls are bound by that

_TRACKS = ("step", "stage", "operation")


@dataclass(frozen=True)
class Span:
    """A piece of work. track: "step", "stage" (a part of a step) or "operation" (of a back end).

    step: number of the step around it, -1 for none. rows: of activations. start_ns: since the engine was
    loaded. bytes: that it has to read and write at least. operations: multiplications and additions.
    """

    name: str
    track: str
    step: int
    rows: int
    start_ns: int
    duration_ns: int
    bytes: int = 0
    operations: int = 0


@dataclass(frozen=True)
class OperationCost:
    """An operation in the mean step: calls, milliseconds, share of the step, bytes and operations."""

    name: str
    calls: float
    ms: float
    share: float
    bytes: float
    operations: float

    @property
    def gb_per_s(self) -> float:
        return self.bytes / self.ms / 1e6 if self.ms else 0.0

    @property
    def gop_per_s(self) -> float:
        return self.operations / self.ms / 1e6 if self.ms else 0.0

    def bound(self, bandwidth_gbs: float) -> str:
        """What limits it: "overhead" of a call too short for anything else, "memory" or "compute"."""
        if self.calls == 0 or self.ms * 1000 < OVERHEAD_US * self.calls:
            return "overhead"
        return "memory" if self.gb_per_s >= MEMORY_BOUND * bandwidth_gbs else "compute"


@dataclass(frozen=True)
class StepCosts:
    """The mean of `steps` steps: rows and milliseconds of one, and its operations, the dearest first.

    The operations' milliseconds add up to `ms`: a stage counts without the operations inside it, and what is
    in no stage is "other". outside: the share that is neither a matrix product nor attention.
    """

    steps: int
    rows: float
    ms: float
    operations: tuple[OperationCost, ...]

    @property
    def outside(self) -> float:
        return sum(cost.share for cost in self.operations if not _is_heavy(cost.name))

    def to_dict(self, bandwidth_gbs: float) -> dict[str, Any]:
        operations = [
            {
                **asdict(cost),
                "gb_per_s": cost.gb_per_s,
                "gop_per_s": cost.gop_per_s,
                "bound": cost.bound(bandwidth_gbs),
            }
            for cost in self.operations
        ]
        return {**asdict(self), "operations": operations, "outside": self.outside}


class Profile:
    """What an engine recorded. `spans` are sorted by their beginning, an outer one before those inside it."""

    def __init__(self, spans: Iterable[Span | Mapping[str, Any]]) -> None:
        made = (span if isinstance(span, Span) else Span(**span) for span in spans)
        self.spans: tuple[Span, ...] = tuple(
            sorted(made, key=lambda span: (span.start_ns, -span.duration_ns, _TRACKS.index(span.track)))
        )

    def steps(self, kind: str = "step") -> list[Span]:
        """The steps of a kind: "step" (of decoding), "prefill" (a chunk of a prompt) or "measure"."""
        return [span for span in self.spans if span.track == "step" and span.name == kind]

    def costs(self, kind: str = "step") -> StepCosts:
        """The mean step of a kind; all zero when there was none."""
        steps = self.steps(kind)
        count, total = len(steps), sum(step.duration_ns for step in steps)
        sums: dict[str, list[int]] = {}
        for name, span, own_ns in _own_times(self.spans, {step.step for step in steps}):
            entry = sums.setdefault(name, [0, 0, 0, 0])
            for index, value in enumerate((name != "other", own_ns, span.bytes, span.operations)):
                entry[index] += value
        costs = [
            OperationCost(name, calls / count, ns / count / 1e6, ns / total if total else 0.0, b / count, o / count)
            for name, (calls, ns, b, o) in sums.items()
        ]
        costs.sort(key=lambda cost: -cost.ms)
        if not steps:
            return StepCosts(0, 0.0, 0.0, ())
        return StepCosts(count, sum(step.rows for step in steps) / count, total / count / 1e6, tuple(costs))

    def trace(self) -> dict[str, Any]:
        """The spans as a Chrome trace (chrome://tracing, Perfetto): steps and stages on one track, operations
        on another; microseconds."""
        return chrome_trace({"forerun": self})

    def __len__(self) -> int:
        return len(self.spans)


def chrome_trace(profiles: Mapping[str, Profile]) -> dict[str, Any]:
    """Several profiles side by side, each as a process of its own under its name."""
    events: list[dict[str, Any]] = []
    for process, (name, profile) in enumerate(profiles.items(), start=1):
        events.append(_label("process_name", name, process, 0))
        events.append(_label("thread_name", "steps", process, 1))
        events.append(_label("thread_name", "operations", process, 2))
        for span in profile.spans:
            numbers = {"step": span.step, "rows": span.rows, "bytes": span.bytes, "operations": span.operations}
            events.append(
                {
                    "name": span.name,
                    "cat": span.track,
                    "ph": "X",
                    "ts": span.start_ns / 1000,
                    "dur": span.duration_ns / 1000,
                    "pid": process,
                    "tid": 2 if span.track == "operation" else 1,
                    "args": {key: value for key, value in numbers.items() if value},
                }
            )
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def save_trace(path: str | Path, profiles: Mapping[str, Profile]) -> None:
    Path(path).write_text(json.dumps(chrome_trace(profiles)) + "\n", encoding="utf-8")


def _label(kind: str, name: str, process: int, thread: int) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _own_times(spans: Sequence[Span], steps: set[int]) -> Iterable[tuple[str, Span, int]]:
    """(row of the table, span, its time without the spans inside it) of all spans of these steps."""
    own = {}
    open_spans: list[int] = []
    stage_of: dict[int, str] = {}
    for index, span in enumerate(spans):
        if span.step not in steps:
            continue
        while open_spans and span.start_ns >= _end(spans[open_spans[-1]]):
            open_spans.pop()
        own[index] = span.duration_ns
        stage_of[index] = span.name if span.track == "stage" else ""
        if open_spans:
            own[open_spans[-1]] -= span.duration_ns
            stage_of[index] = stage_of[index] or stage_of[open_spans[-1]]
        open_spans.append(index)
    for index, nanoseconds in own.items():
        span = spans[index]
        if span.track == "step" or (span.track == "stage" and span.name == "forward"):
            yield "other", span, nanoseconds
        elif span.track == "operation" and stage_of[index] == "draft":
            yield "draft." + span.name, span, nanoseconds
        else:
            yield span.name, span, nanoseconds


def _end(span: Span) -> int:
    return span.start_ns + span.duration_ns


def _is_heavy(name: str) -> bool:
    name = name.removeprefix("draft.")
    return name.startswith("linear") or name == "attention"
