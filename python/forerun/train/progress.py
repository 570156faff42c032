"""One line a while on stderr: how far, how fast, how long to go."""

from __future__ import annotations

import sys
import time


class Progress:
    """Counts steps and units (tokens); prints them at most every `every` seconds. Where the total is known nothing else
    is done meanwhile, so that speed and time to go can be told.
    """

    def __init__(self, name: str, total: int | None, unit: str, every: float = 10.0) -> None:
        self.units = 0
        self._name, self._total, self._unit, self._every = name, total, unit, every
        self._done = 0
        self._start = self._last = time.monotonic()

    def step(self, units: int, note: str = "") -> None:
        self._done += 1
        self.units += units
        now = time.monotonic()
        if now - self._last < self._every and self._done != self._total:
            return
        self._last = now
        elapsed = max(now - self._start, 1e-9)
        line = f"{self._name} {self._done}, {self.units:,} {self._unit}"
        if self._total is not None:
            left = elapsed / self._done * (self._total - self._done)
            line = (
                f"{self._name} {self._done}/{self._total}, {self.units:,} {self._unit}, "
                f"{self.units / elapsed:,.0f} {self._unit}/s, {_clock(left)} to go"
            )
        print(line + (note and ", " + note), file=sys.stderr, flush=True)

    def skip(self, steps: int) -> None:
        """Steps that were done before."""
        if self._total is not None:
            self._total -= steps


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
