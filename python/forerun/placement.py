"""Which device holds what: placements, and plans that predict how fast one would be."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forerun import _core, models
from forerun.checks import INT64, check_count

Placement = str | os.PathLike[str] | Mapping[str, Any]
_UNITS = {"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class Plan:
    """A placement and what a step of it is expected to take and to bring.

    layers: devices by ranges of target layers, {"0-21": "cpu", "22-27": "cuda:0"}; head and draft: devices.
    drafter: what drafts, as `Engine` takes it. nodes, depth: draft tokens a step, levels of their tree.
    tokens: expected a step. ready: share of the steps whose next tree was drafted while the target verified.
    memory: bytes by device. why: the reason, for people.
    """

    layers: Mapping[str, str]
    head: str
    draft: str
    drafter: str
    nodes: int
    depth: int
    tokens: float
    verify_ms: float
    draft_ms: float
    ready: float
    step_ms: float
    tokens_per_second: float
    memory: Mapping[str, int]
    why: str
    json: str  # as `save` writes it

    @classmethod
    def parse(cls, text: str) -> Plan:
        fields = json.loads(text)
        fields.pop("hidden_ms", None)
        return cls(drafter=fields.pop("with"), json=text, **fields)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it as a file that `Engine(placement=path)` takes."""
        Path(path).write_text(self.json + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Plans:
    """Plans of every kind that fits, best first, and what they rest on."""

    plans: tuple[Plan, ...]
    profile: Mapping[str, Any]
    cache_file: str
    measured: bool

    @property
    def best(self) -> Plan:
        return self.plans[0]


def plan(
    target: str | os.PathLike[str],
    drafts: str | Sequence[str] = (),
    *,
    vram_limit: str | int | None = None,
    ram_limit: str | int | None = None,
    context: int = 2048,
    threads: int | None = None,
    overlap: bool = True,
    simulate: Mapping[str, str] | None = None,
    acceptance: float | None = None,
    measure: bool = False,
    progress: Callable[[str], object] | None = None,
) -> Plans:
    """Plans where the layers of a target and its draft should lie on this machine.

    Measures what forwards of the models take on every device, what copies take, how much two devices slow each
    other down and how often the draft is right. That takes some seconds per device and model, once: the profile
    is kept in the cache, by hardware and models.

    drafts: draft models, files or names; the best of them or none is chosen.
    vram_limit, ram_limit: memory that may be used, in bytes or such as "3GiB". A GPU needs a limit.
    context: positions whose keys and values must fit.
    simulate: imagined devices, {"cuda:0": "bandwidth=448,compute=11000,launch=5,link=12,latency=10"}, in GB/s,
        GFLOP/s, microseconds, GB/s and microseconds.
    acceptance: probability that the draft's best guess is right; None or 0 measures it on a short text.
    measure: measure even if there is a profile.

    Raises MemoryError when nothing fits, else what Engine raises.
    """
    check_count("context", context, low=1, optional=False)
    check_count("threads", threads, low=1)
    listed = [drafts] if isinstance(drafts, str) else list(drafts)
    found = _core.plan(
        models.resolve(target),
        drafts=[models.resolve(draft.removeprefix("model:")) for draft in listed],
        vram_limit=bytes_of("vram_limit", vram_limit),
        ram_limit=bytes_of("ram_limit", ram_limit),
        context=context,
        threads=threads,
        overlap=overlap,
        simulate=dict(simulate or {}),
        acceptance=acceptance or 0.0,
        cache=profile_folder(),
        measure=measure,
        progress=progress,
    )
    return Plans(
        plans=tuple(Plan.parse(text) for text in found["plans"]),
        profile=json.loads(found["profile"]),
        cache_file=found["cache_file"],
        measured=found["measured"],
    )


def plan_profile(
    profile: Mapping[str, Any],
    *,
    vram_limit: str | int | None = None,
    ram_limit: str | int | None = None,
    context: int = 2048,
    overlap: bool = True,
    nodes: int = 0,
) -> tuple[Plan, ...]:
    """Plans for a machine that need not be here, best first. profile: as `Plans.profile`; nodes: draft tokens a
    step, 0 leaves them to the planner.

    Raises forerun.ModelFileError for what is no profile, MemoryError when nothing fits.
    """
    found = _core.plan_profile(
        json.dumps(profile),
        vram_limit=bytes_of("vram_limit", vram_limit),
        ram_limit=bytes_of("ram_limit", ram_limit),
        context=context,
        overlap=overlap,
        nodes=nodes,
    )
    return tuple(Plan.parse(text) for text in found)


def placement_text(placement: Placement | Plan | None) -> str:
    """A placement as the native engine takes it."""
    if placement is None:
        return ""
    if isinstance(placement, Plan):
        return placement.json
    if isinstance(placement, Mapping):
        return json.dumps(dict(placement))
    return os.fspath(placement)


def profile_folder() -> str:
    """Where measured profiles are kept."""
    return str(models.cache_dir() / "profiles")


def bytes_of(name: str, value: str | int | None) -> int:
    """ "3GiB", "512M" or a number of bytes; None is 0."""
    if value is None:
        return 0
    if hasattr(value, "__index__") and not isinstance(value, bool):
        check_count(name, value, low=1, high=INT64, optional=False)
        return value.__index__()
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", value.strip()) if isinstance(value, str) else None
    if not match or float(match[1]) <= 0:
        raise ValueError(f"{name}: expected bytes such as 3GiB or 512M, found {value!r}")
    size = float(match[1]) * (1 << _UNITS[match[2]])
    if not 1 <= size < INT64:
        raise ValueError(f"{name}: expected at least one byte and less than 8 EiB, found {value!r}")
    return int(size)
