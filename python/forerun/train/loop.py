"""What the training loops share: a step of the optimisers, the course of the rates, the folder of a run."""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Shown = TypeVar("Shown")
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of mallopt(3)
Rated = tuple[torch.optim.Optimizer, float]  # an optimiser and its peak rate


def descend(
    model: nn.Module,
    optimisers: Iterable[Rated],
    factor: float,
    loss_of: Callable[[], tuple[Tensor, Shown]],
    bf16: bool,
    clip: float = 1.0,
    seen: AbstractContextManager[None] | None = None,
) -> Shown:
    """One step at `factor` of the peak rates down the loss that `loss_of` gives with something to show. The slope's
    norm is at most `clip`. It is taken within `seen`, which may change the weights for so long.

    Raises RuntimeError for a loss that is not finite.
    """
    _keep_freed_memory()
    for optimiser, rate in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate * factor
        optimiser.zero_grad(set_to_none=True)
    model.train()
    with seen or nullcontext():
        with torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled=bf16):
            loss, shown = loss_of()
        if not loss.isfinite():
            raise RuntimeError(f"the loss is {loss.item()}: the run has diverged; begin anew with smaller rates")
        loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    for optimiser, _ in optimisers:
        optimiser.step()
    return shown


@cache
def _keep_freed_memory() -> None:
    """Has this process keep the memory of tensors that were freed for the next ones: given back to the system, as glibc
    does with large pieces, it comes again as a page fault for every 4 kB. Elsewhere nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)  # never


def cosine(done: float, floor: float = 0.0) -> float:
    """From 1 to `floor` while `done` goes from 0 to 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The validations of a run so far, oldest first."""
    path = folder / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


class RunFolder:
    """A run's folder: settings.json, state.pt to go on from, log.jsonl with a line for each validation.

    settings: dataclasses and plain values by name; a run goes on with the same ones only. writes: without it, of a
    process beside the one that writes, nothing is changed.
    """

    def __init__(self, path: Path, settings: dict[str, Any], writes: bool = True) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self._settings, self._writes = path, settings, writes

    def resume(self) -> dict[str, Any] | None:
        """The state that was saved last; None at the beginning. What was logged after it is forgotten.

        Raises ValueError when it is of other settings.
        """
        path = self.path / "state.pt"
        if not path.exists():
            if not self._writes:
                return None
            (self.path / "settings.json").write_text(json.dumps(self._plain(), indent=1), encoding="utf-8")
            self._write_log([])
            return None
        state = torch.load(path, weights_only=True, map_location="cpu")
        found = {name: _like(value, state["settings"].get(name)) for name, value in self._settings.items()}
        if found != self._settings or state["settings"].keys() > self._settings.keys():
            raise ValueError(f"{path}: made with other settings or data; take them, or another folder")
        if not self._writes:
            return state
        self._write_log([entry for entry in self.log() if entry["step"] <= state["step"]])
        return state

    def save(self, step: int, **state: Any) -> None:
        self.write("state.pt", {"settings": self._plain(), "step": step, **state})

    def write(self, name: str, state: dict[str, Any]) -> None:
        """Whole or not at all."""
        if not self._writes:
            return
        partial = (self.path / name).with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path / name)

    def add(self, entry: dict[str, Any]) -> None:
        """Logs a validation; it needs a "step"."""
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")

    def log(self) -> list[dict[str, Any]]:
        return read_log(self.path)

    @property
    def _log(self) -> Path:
        return self.path / "log.jsonl"

    def _write_log(self, entries: list[dict[str, Any]]) -> None:
        self._log.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")

    def _plain(self) -> dict[str, Any]:
        return {name: asdict(value) if is_dataclass(value) else value for name, value in self._settings.items()}


def _like(value: Any, held: Any) -> Any:
    """Held settings as what they were; a field that did not exist then has its default."""
    if not is_dataclass(value) or not isinstance(held, dict) or not held.keys() <= {f.name for f in fields(value)}:
        return held
    return type(value)(**held)
