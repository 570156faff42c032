"""Measures an engine: memory, verify cost, prefill, and speculation against plain decoding.

Everything is measured in one run on one machine, plain and speculative decoding of a prompt one right after
the other, since only ratios of neighbouring measurements survive a shared machine.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import forerun
from forerun import _core
from forerun.checks import numbered_lines
from forerun.engine import Engine
from forerun.profile import Profile
from forerun.types import Completion, Sampling

VERIFY_ROWS = (1, 2, 4, 8, 16, 32, 64)
VERIFY_CONTEXT = 256
PREFILL_TOKENS = 512
BANDWIDTH_MIB = 512
ENOUGH_SECONDS = 2.0  # of decoding per prompt and side; shorter answers are repeated
MOST_REPEATS = 5
PROFILE_PROMPT = (
    "Item 1: apples, red, 3 kg. Item 2: pears, green, 2 kg. Item 3: plums, blue, 5 kg. "
    "The list once more, in the same order. Item 1: apples,"
)

Report = Callable[[str, int, int], None]  # (what is being measured, done, in all)


@dataclass(frozen=True)
class BenchPrompt:
    id: str
    category: str
    prompt: str


@dataclass(frozen=True)
class BenchOptions:
    """draft, policy, verify, method_options: the speculative side. tokens: generated per prompt and side at most.
    repeats: of each verify and prefill timing. raw: prompts go in as they are, without the chat template."""

    draft: str = "auto"
    policy: str = "auto"
    verify: str = "match"
    method_options: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    placement: str | None = None
    vram_limit: str | int | None = None
    ram_limit: str | int | None = None
    threads: int | None = None
    context: int | None = None
    kv_type: str = "f16"
    tokens: int = 128
    repeats: int = 9
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    raw: bool = False

    def machine(self) -> dict[str, Any]:
        """Keywords of both sides' Engine."""
        return {
            "device": self.device,
            "placement": self.placement,
            "vram_limit": self.vram_limit,
            "ram_limit": self.ram_limit,
            "threads": self.threads,
            "context": self.context,
            "kv_type": self.kv_type,
        }

    def methods(self) -> dict[str, Any]:
        """Keywords of the speculative side's Engine."""
        return {
            "draft": self.draft,
            "policy": self.policy,
            "verify": self.verify,
            "method_options": self.method_options,
        }


def read_prompts(path: str | Path) -> list[BenchPrompt]:
    """Reads a JSON-lines file of {"id", "category", "prompt"}; ValueError names the wrong line."""
    prompts = []
    for number, line in numbered_lines(path):
        try:
            entry = json.loads(line)
            values = [entry[name] for name in ("id", "category", "prompt")]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: line {number}: expected a JSON object with id, category and prompt ({error})"
            ) from error
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{path}: line {number}: id, category and prompt must be strings")
        prompts.append(BenchPrompt(*values))
    if not prompts:
        raise ValueError(f"{path}: holds no prompt")
    return prompts


def bench(
    model: str,
    options: BenchOptions | None = None,
    prompts: Sequence[BenchPrompt] = (),
    report: Report | None = None,
) -> dict[str, Any]:
    """Measures `model` and returns a JSON-able dict (keys: docs/cli.md).

    Raises what Engine raises.
    """
    options = options or BenchOptions()
    report = report or (lambda phase, done, total: None)
    fresh = {"prefix_cache_bytes": 0}  # every repetition reads its prompt
    with Engine(model, draft="none", **fresh, **options.machine()) as plain:
        result = measure_target(plain, options.repeats, report)
        result = {"forerun": forerun.__version__, "model": str(model), "kv_type": options.kv_type, **result}
        if prompts:
            with Engine(model, **fresh, **options.methods(), **options.machine()) as speculative:
                result["draft"] = speculative.info.get("draft", options.draft)
                rows = list(compare(plain, speculative, prompts, options, report))
            result["tokens"] = options.tokens
            result["sampling"] = options.sampling.to_dict()
            result["prompts"] = rows
            result["summary"] = summarise(rows)
    return result


def profile(
    model: str,
    options: BenchOptions | None = None,
    entry: BenchPrompt | None = None,
    rows: int | None = None,
    report: Report | None = None,
) -> tuple[dict[str, Any], dict[str, Profile]]:
    """Where the time of a step goes: a JSON-able dict (keys: docs/cli.md), and what was recorded.

    Sections: "plain" decodes the entry's prompt, or a list to continue when there is none; "speculative" too, with the
    draft of the options unless it is "none"; "rows", when given, is target forwards of that many tree rows. Raises what
    Engine raises.
    """
    options = options or BenchOptions()
    report = report or (lambda phase, done, total: None)
    if entry is None:
        entry, options = BenchPrompt("list", "", PROFILE_PROMPT), replace(options, raw=True)
    sections = {"plain": {"draft": "none"}, "speculative": options.methods()}
    if options.draft == "none":
        del sections["speculative"]
    result: dict[str, Any] = {"forerun": forerun.__version__, "model": str(model)}
    profiles: dict[str, Profile] = {}
    kinds = {}
    for done, (section, methods) in enumerate(sections.items()):
        report(f"{section} decoding", done, len(sections))
        with Engine(model, **methods, **options.machine(), profile=True) as engine:
            if not kinds:
                cpu, threads = _core.cpu_info(), engine.info["threads"]
                result["machine"] = {"cpu": cpu["model"], "threads": threads, "isa": cpu["isa"]}
                result["bandwidth_gbs"] = _core.read_bandwidth(threads, BANDWIDTH_MIB)
                if rows is not None:
                    engine.native.measure_verify(rows, VERIFY_CONTEXT, options.repeats)
                    profiles["rows"], kinds["rows"] = engine.profile(), "measure"
            answer(engine, entry, options)  # what is learnt and allocated once
            engine.profile()
            answer(engine, entry, options)
            profiles[section], kinds[section] = engine.profile(), "step"
    result["profile"] = {
        section: profiles[section].costs(kind).to_dict(result["bandwidth_gbs"]) for section, kind in kinds.items()
    }
    return result, profiles


def measure_target(engine: Engine, repeats: int, report: Report) -> dict[str, Any]:
    """Bandwidth, verify cost by rows after a context of 256 tokens, and prefill of 512 tokens."""
    info = engine.info
    threads = info["threads"]
    total = len(VERIFY_ROWS) + 2
    report("bandwidth", 0, total)
    bandwidth = _core.read_bandwidth(threads, BANDWIDTH_MIB)
    times = {}
    for index, rows in enumerate(VERIFY_ROWS):
        report(f"verify, {rows} rows", 1 + index, total)
        times[str(rows)] = engine.native.measure_verify(rows, VERIFY_CONTEXT, repeats)
    report(f"prefill, {PREFILL_TOKENS} tokens", total - 1, total)
    prefill = engine.native.measure_prefill(PREFILL_TOKENS, max(3, repeats // 3))
    report("target", total, total)
    verify = {rows: statistics.median(values) for rows, values in times.items()}
    weights = info["weights_bytes"]
    return {
        "machine": describe_machine(engine),
        "bandwidth_gbs": bandwidth,
        "weights_bytes": weights,
        "verify_ms": verify,
        "verify_ms_spread": {rows: spread(values) for rows, values in times.items()},
        "verify_ratio": {rows: value / verify["1"] for rows, value in verify.items()},
        "bandwidth_fraction": weights / (verify["1"] * 1e-3) / (bandwidth * 1e9),
        "prefill_tps": {str(PREFILL_TOKENS): PREFILL_TOKENS / statistics.median(prefill) * 1e3},
        "prefill_ms_spread": {str(PREFILL_TOKENS): spread(prefill)},
    }


def describe_machine(engine: Engine) -> dict[str, Any]:
    cpu, info = _core.cpu_info(), engine.info
    return {"cpu": cpu["model"], "threads": info["threads"], "isa": info.get("isa", cpu["isa"])}


def compare(
    plain: Engine,
    speculative: Engine,
    prompts: Sequence[BenchPrompt],
    options: BenchOptions,
    report: Report,
) -> Iterable[dict[str, Any]]:
    """One row per prompt: speed of both sides and whether their tokens are the same.

    Answers of less than ENOUGH_SECONDS are repeated and the median counts, since on a shared machine a single short
    answer says little. A repetition is another tenant's, so that it does not draft from the answer before it.
    """
    for engine in (plain, speculative):
        warm_up(engine, prompts[0], options)
    for index, entry in enumerate(prompts):
        report(entry.id, index, len(prompts))
        done: dict[int, list[Completion]] = {id(plain): [], id(speculative): []}
        for repeat in range(MOST_REPEATS):
            # Which side goes first alternates, so that a drift of the machine favours neither.
            sides = [plain, speculative] if (index + repeat) % 2 == 0 else [speculative, plain]
            for side in sides:
                done[id(side)].append(answer(side, entry, options, tenant=f"repeat {repeat}" if repeat else ""))
            if min(sum(one.stats.decode_seconds for one in answers) for answers in done.values()) >= ENOUGH_SECONDS:
                break
        yield row(entry, typical(done[id(plain)]), typical(done[id(speculative)]))
    report("prompts", len(prompts), len(prompts))


def answer(
    engine: Engine, entry: BenchPrompt, options: BenchOptions, tokens: int | None = None, tenant: str = ""
) -> Completion:
    request = entry.prompt if options.raw else [{"role": "user", "content": entry.prompt}]
    most = options.tokens if tokens is None else tokens
    return engine.generate(request, max_tokens=most, sampling=options.sampling, seed=options.seed, tenant=tenant)


def typical(answers: Sequence[Completion]) -> dict[str, Any]:
    """What is kept of the answer of median speed; its digest is empty when not all are the same."""
    kept = [measured(one) for one in sorted(answers, key=lambda one: one.stats.tokens_per_second)]
    chosen = kept[len(kept) // 2]
    if any(one["digest"] != chosen["digest"] for one in kept):
        chosen["digest"] = ""
    return {**chosen, "repeats": len(kept)}


def warm_up(engine: Engine, entry: BenchPrompt, options: BenchOptions) -> None:
    answer(engine, entry, options, min(8, options.tokens))


def measured(completion: Completion) -> dict[str, Any]:
    """What is kept of one side's answer, JSON-able; `digest` stands for its tokens and text."""
    stats = completion.stats
    said = json.dumps([completion.tokens, completion.text])
    return {
        "tps": stats.tokens_per_second,
        "tps_total": stats.tokens_per_second_total,
        "tau": stats.tau,
        "acceptance_by_depth": list(stats.acceptance_by_depth),
        "tried_by_depth": list(stats.tried_by_depth),
        "tokens": stats.tokens,
        "steps": stats.steps,
        "drafted": stats.drafted,
        "accepted": stats.accepted,
        "draft_seconds": stats.draft_seconds,
        "verify_seconds": stats.verify_seconds,
        "prompt_tokens": stats.prompt_tokens,
        "finish_reason": completion.finish_reason,
        "digest": hashlib.sha256(said.encode()).hexdigest()[:16],
    }


def row(entry: BenchPrompt, plain: Mapping[str, Any], speculative: Mapping[str, Any]) -> dict[str, Any]:
    """A prompt's two sides, each as `measured` tells it, next to each other."""
    sides = ("tps", "tps_total", "digest")
    return {
        "id": entry.id,
        "category": entry.category,
        "plain_tps": plain["tps"],
        "spec_tps": speculative["tps"],
        "plain_tps_total": plain["tps_total"],
        "spec_tps_total": speculative["tps_total"],
        "identical": plain["digest"] == speculative["digest"] != "",
        **{name: value for name, value in speculative.items() if name not in sides},
    }


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Geometric means by category, and "overall" over all prompts."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["category"], []).append(row)
    summary = {category: _summarise_group(group) for category, group in sorted(groups.items())}
    return {**summary, "overall": _summarise_group(rows)}


def _summarise_group(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    timed = [row for row in rows if row["plain_tps"] > 0 and row["spec_tps"] > 0]
    ratios = [row["spec_tps"] / row["plain_tps"] for row in timed]
    totals = [row["spec_tps_total"] / row["plain_tps_total"] for row in timed]
    steps = sum(row["steps"] for row in rows)
    return {
        "prompts": len(rows),
        "plain_tps": geometric_mean(row["plain_tps"] for row in timed),
        "spec_tps": geometric_mean(row["spec_tps"] for row in timed),
        "ratio": geometric_mean(ratios),
        "ratio_total": geometric_mean(totals),
        "slowest_ratio": min(ratios, default=0.0),
        "tau": sum(row["tokens"] for row in rows) / steps if steps else 0.0,
        "identical": all(row["identical"] for row in rows),
    }


def geometric_mean(values: Iterable[float]) -> float:
    """0 for no values at all: nothing was timed."""
    logs = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logs)) if logs else 0.0


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "repeats": len(values),
    }
