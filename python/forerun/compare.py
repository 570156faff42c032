"""Measures combinations of drafters, policies and verifiers against plain decoding, on the same prompts.

Plain decoding runs first. Every finished run (a prompt under a combination) is appended to FOLDER/runs.jsonl at once,
so that an interrupted comparison can go on. A drafter learns from the prompts before, but it must not see an answer
twice: each repeat is a pass over all prompts with an engine of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import forerun
from forerun import ModelFileError, _core, bench, methods
from forerun.bench import BenchOptions, BenchPrompt, Report
from forerun.checks import read_text
from forerun.draft_names import split_draft
from forerun.engine import Engine

RUNS = "runs.jsonl"
AUTO = ("suffix", "trigram", "head")  # what the draft "auto" may stand for
_WARM_UP = BenchPrompt("warm-up", "", "Count to five.")


@dataclass(frozen=True)
class Combination:
    """budget: draft tokens in every step; None lets the controller decide."""

    draft: str
    policy: str = "auto"
    verify: str = "match"
    budget: int | None = None
    method_options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def drafters(self) -> list[str]:
        """Names of its drafters; "auto" stands for all that it may take."""
        names = [piece.partition(":")[0] for piece in split_draft(self.draft)]
        return [name for piece in names for name in (AUTO if piece == "auto" else (piece,))]

    @property
    def grown(self) -> bool:
        """Whether the policy matters to it."""
        return any(method.grown for method in methods.drafters() if method.name in self.drafters)

    @property
    def label(self) -> str:
        if self.draft == "none":
            return "plain"
        pieces = (piece.partition(":") for piece in split_draft(self.draft))
        parts = ["+".join(name + colon + _short(Path(path).stem) for name, colon, path in pieces)]
        parts += [self.policy] if self.grown and self.policy != "auto" else []
        parts += [self.verify] if self.verify != "match" else []
        parts += [f"{self.budget} nodes"] if self.budget is not None else []
        return " / ".join(parts)

    def keeps_text(self, temperature: float) -> bool:
        """Whether the text must be that of plain decoding, not only its distribution."""
        own = [method for method in methods.drafters() if method.name in self.drafters]
        own += [method for method in methods.policies() if method.name == self.policy and self.grown]
        own += [method for method in methods.verifiers() if method.name == self.verify]
        lossless = all(method.lossless for method in own)
        return lossless and (self.verify == "match" or temperature == 0)


PLAIN = Combination("none")


def grid(
    drafts: Sequence[str],
    policies: Sequence[str] = ("auto",),
    verifiers: Sequence[str] = ("match",),
    budgets: Sequence[int] = (),
    method_options: Mapping[str, str] | None = None,
) -> list[Combination]:
    """Every combination, each under the controller and then with each budget; plain decoding is not among them.

    Drafts that no policy grows come once. Each combination gets the options of its own methods. Raises ValueError
    for an unknown name and for an option that nobody takes.
    """
    _check_names(drafts, policies, verifiers)
    options = dict(method_options or {})
    combinations: dict[Combination, None] = {}
    unused = set(options)
    for draft, policy, verify in itertools.product(drafts, policies, verifiers):
        if draft == "none":
            continue
        named = Combination(draft, policy, verify)
        named = named if named.grown else replace(named, policy=policies[0])
        own = {*named.drafters, named.policy, named.verify}
        mine = {name: value for name, value in options.items() if name.partition(".")[0] in own}
        unused -= set(mine)
        for budget in (None, *budgets):
            combinations[replace(named, budget=budget, method_options=mine)] = None
    if unused:
        raise ValueError(f"option {', '.join(sorted(unused))}: no combination has this method")
    return list(combinations)


def _check_names(drafts: Sequence[str], policies: Sequence[str], verifiers: Sequence[str]) -> None:
    asked = {
        "drafter": [name for draft in drafts for name in Combination(draft).drafters],
        "policy": policies,
        "verifier": verifiers,
    }
    exist = {"drafter": methods.drafters(), "policy": methods.policies(), "verifier": methods.verifiers()}
    for kind, names in asked.items():
        right = [method.name for method in exist[kind]] + (["none", "auto"] if kind == "drafter" else [])
        for name in names:
            if name not in right:
                raise ValueError(f"unknown {kind} {name!r}, expected one of {', '.join(right)}")


class Comparison:
    """The runs of a model on some prompts: in memory as `lines`, in FOLDER/runs.jsonl one JSON line each.

    repeats: passes over the prompts, whose median counts. paired: plain decoding answers again beside every
    combination, since only neighbouring measurements compare on a machine that others use too.
    resume: go on with the file's runs, all of which must come from the same build, machine and settings.

    Raises ValueError for a file that is there without `resume`, or that cannot be resumed, and for prompts that
    share an id.
    """

    def __init__(
        self,
        model: str,
        prompts: Sequence[BenchPrompt],
        options: BenchOptions,
        folder: Path,
        *,
        repeats: int = 1,
        paired: bool = False,
        resume: bool = False,
    ) -> None:
        self.model, self.prompts, self.options = model, list(prompts), options
        self.repeats, self.paired = repeats, paired
        self.path = folder / RUNS
        self.lines: list[dict[str, Any]] = []
        self.skipped: dict[Combination, str] = {}
        self.header = {
            "forerun": forerun.__version__,
            "commit": _commit(),
            "model": model,
            "machine": _machine(options),
            "settings": {
                "tokens": options.tokens,
                "sampling": options.sampling.to_dict(),
                "seed": options.seed,
                "raw": options.raw,
                "context": options.context,
                "kv_type": options.kv_type,
                "repeats": repeats,
                "paired": paired,
            },
        }
        ids = [entry.id for entry in self.prompts]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise ValueError(f"two prompts have the id {twice!r}")
        if self.path.exists() and not resume:
            raise ValueError(f"{self.path} holds runs already: resume it or choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._read()

    def run(self, combinations: Sequence[Combination], report: Report | None = None) -> None:
        """Runs what is not done yet. What the engine refuses is left out, its reason in `skipped`."""
        report = report or (lambda what, done, total: None)
        todo = {combination: self._missing(combination) for combination in (PLAIN, *combinations)}
        total = sum(len(prompts) * self.repeats for prompts in todo.values())
        done = 0

        def tell(what: str) -> None:
            nonlocal done
            report(what, done, total)
            done += 1

        for combination, prompts in todo.items():
            if not prompts:
                continue
            before = done
            try:
                self._measure(combination, prompts, tell)
            except (ValueError, NotImplementedError, ModelFileError, MemoryError) as refusal:
                if combination == PLAIN:
                    raise
                self.skipped[combination] = str(refusal)
                total -= len(prompts) * self.repeats - (done - before)
        report("done", done, total)

    def rows(self) -> dict[Combination, list[dict[str, Any]]]:
        """Finished runs by combination, plain decoding first; each is a row of `bench` and more."""
        rows: dict[Combination, list[dict[str, Any]]] = {}
        for line in self.lines:
            rows.setdefault(Combination(**line["combination"]), []).append(line)
        return rows

    def _missing(self, combination: Combination) -> list[BenchPrompt]:
        have = {line["id"] for line in self.rows().get(combination, ())}
        return [entry for entry in self.prompts if entry.id not in have]

    def _measure(self, combination: Combination, prompts: Sequence[BenchPrompt], tell: Callable[[str], None]) -> None:
        """All passes over the prompts; the last one writes the lines."""
        plain = {
            line["id"]: {"tps": line["spec_tps"], "tps_total": line["spec_tps_total"], "digest": line["digest"]}
            for line in self.rows().get(PLAIN, ())
        }
        own: dict[str, list[dict[str, Any]]] = {entry.id: [] for entry in prompts}
        beside: dict[str, list[dict[str, Any]]] = {entry.id: [] for entry in prompts}
        for index in range(self.repeats):
            with contextlib.ExitStack() as stack:
                sides = [(stack.enter_context(self._engine(combination)), own)]
                if self.paired and combination != PLAIN:
                    sides.append((stack.enter_context(self._engine(PLAIN)), beside))
                for engine, _ in sides:
                    bench.warm_up(engine, _WARM_UP, self.options)
                for entry in prompts:
                    tell(f"{combination.label}: {entry.id}")
                    sides.reverse()  # so that a drift of the machine favours neither
                    for engine, answers in sides:
                        answers[entry.id].append(bench.measured(bench.answer(engine, entry, self.options)))
                    if index == self.repeats - 1:
                        median = _median(own[entry.id])
                        base = _median(beside[entry.id]) if beside[entry.id] else plain.get(entry.id, median)
                        self._append(combination, entry, base, median)

    def _engine(self, combination: Combination) -> Engine:
        values = combination.to_dict()
        # No prefix cache: a prompt's prefill must cost the same in every pass.
        return Engine(
            self.model,
            fixed_draft=values.pop("budget"),
            **values,
            **self.options.machine(),
            prefix_cache_bytes=0,
        )

    def _append(self, combination: Combination, entry: BenchPrompt, plain: dict[str, Any], own: dict[str, Any]) -> None:
        line = {
            **self.header,
            "combination": combination.to_dict(),
            **bench.row(entry, plain, own),
            "must_be_identical": combination.keeps_text(self.options.sampling.temperature),
            "prompt": _fingerprint(entry.prompt),
            "digest": own["digest"],
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.lines.append(line)

    def _read(self) -> None:
        """Takes over the runs of the file; a last line that was cut off is dropped from it."""
        text = read_text(self.path)
        whole = text[: text.rfind("\n") + 1]
        current = {(entry.id, _fingerprint(entry.prompt)) for entry in self.prompts}
        for number, text_line in enumerate(whole.splitlines(), start=1):
            try:
                line = json.loads(text_line)
                found = {name: line[name] for name in self.header}
                key = (line["id"], line["prompt"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self.path}: line {number} is not a run ({error})") from error
            for name, expected in self.header.items():
                if found[name] != expected:
                    raise ValueError(
                        f"{self.path}: line {number} has {name} {found[name]!r}, expected {expected!r}: "
                        "runs of different kinds cannot be compared, choose another folder"
                    )
            if key in current:
                self.lines.append(line)
        if whole != text:
            self.path.write_text(whole, encoding="utf-8")


def summarise(comparison: Comparison) -> list[dict[str, Any]]:
    """One entry per combination: `groups` as `bench.summarise` gives them, with "overall" last, the slowest prompt,
    and how many texts are those of plain decoding."""
    entries = []
    for combination, rows in comparison.rows().items():
        slowest = min(rows, key=lambda row: row["spec_tps"] / row["plain_tps"] if row["plain_tps"] else 1.0)
        entries.append(
            {
                "combination": combination,
                "label": combination.label,
                "groups": bench.summarise(rows),
                "slowest_prompt": slowest["id"],
                "identical": sum(row["identical"] for row in rows),
                "broken": [row["id"] for row in rows if row["must_be_identical"] and not row["identical"]],
                "acceptance_by_depth": acceptance_by_depth(rows),
            }
        )
    return entries


def acceptance_by_depth(rows: Sequence[Mapping[str, Any]], least: int = 20) -> list[float]:
    """Over all rows, as far as at least so many steps' drafts reached."""
    tried: list[float] = []
    kept: list[float] = []
    for row in rows:
        for depth, (count, rate) in enumerate(zip(row["tried_by_depth"], row["acceptance_by_depth"], strict=True)):
            if depth == len(tried):
                tried.append(0)
                kept.append(0)
            tried[depth] += count
            kept[depth] += count * rate
    return [k / t for k, t in zip(kept, tried, strict=True) if t >= least]


def _median(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last answer with the median speeds of all and their spread; its digest shows whether texts differ."""
    speeds = [answer["tps"] for answer in answers]
    return {
        **answers[-1],
        "digest": "+".join(sorted({answer["digest"] for answer in answers})),
        "tps": statistics.median(speeds),
        "tps_total": statistics.median(answer["tps_total"] for answer in answers),
        "tps_spread": bench.spread(speeds),
    }


def _short(name: str, limit: int = 20) -> str:
    return name if len(name) <= limit else name[: limit // 2] + "\u2026" + name[1 - limit // 2 :]


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _machine(options: BenchOptions) -> dict[str, Any]:
    cpu = _core.cpu_info()
    machine = {
        "cpu": cpu["model"],
        "threads": options.threads or cpu["cores"],
        "isa": cpu["isa"],
        "device": options.device,
    }
    return machine if options.device == "cpu" else {**machine, options.device: _core.cuda_info()}


def _commit() -> str | None:
    """Of the source tree that this package lies in, "-dirty" when it is changed; None for an installed package."""
    package = Path(__file__).resolve().parent
    root = package.parents[1]
    if not (root / ".git").exists() or not (root / "csrc").is_dir():
        return None
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None
