"""What arguments must be, before they reach the native side. Each raises ValueError naming the argument."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

INT32 = 2**31 - 1
INT64 = 2**63 - 1


def check_count(name: str, value: Any, low: int, high: int = INT32, optional: bool = True) -> None:
    """An integer from low to high, or None where it is optional."""
    if value is None and optional:
        return
    good = not isinstance(value, bool) and hasattr(value, "__index__")
    if not good or not low <= value.__index__() <= high:
        open_end = high in (INT32, INT64) and not (good and value.__index__() > high)
        bounds = f"from {low} up" if open_end else f"from {low} to {high}"
        raise ValueError(f"{name}: expected an integer {bounds}, found {value!r}")


def check_number(name: str, value: Any, low: float | None = None, high: float | None = None) -> None:
    """A finite number within limits."""
    limits = "a finite number"
    if low is not None:
        limits += f" from {low:g}" + (f" to {high:g}" if high is not None else " up")
    try:
        good = not isinstance(value, (str, bytes, bool)) and math.isfinite(value)
    except (TypeError, OverflowError):
        good = False
    if not good or (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name}: expected {limits}, found {value!r}")


def check_text(name: str, value: Any) -> str:
    """A string that is text; one made of bytes that are not UTF-8 is none."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text, found {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        found = value[error.start]
        raise ValueError(f"{name}: not valid UTF-8: {found!r} at character {error.start}") from None
    return value


def integers(name: str, values: Any, low: int) -> list[int]:
    """A list of integers from low up."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{name}: expected a list of integers, found {values!r}")
    items = list(values)
    for index, item in enumerate(items):
        check_count(f"{name}[{index}]", item, low=low, optional=False)
    return [item.__index__() for item in items]


def token_ids(name: str, tokens: Iterable[Any]) -> list[int]:
    """Token ids as the native side takes them; whether the vocabulary has them is known there."""
    try:
        items = list(tokens)
    except TypeError:
        raise ValueError(f"{name}: expected token ids, found {type(tokens).__name__}") from None
    for index, item in enumerate(items):
        if isinstance(item, bool) or not hasattr(item, "__index__"):
            raise ValueError(f"{name}[{index}]: expected a token id, found {item!r}")
        if not -INT32 <= item.__index__() <= INT32:
            raise ValueError(f"{name}[{index}]: token id {item!r} is outside the vocabulary")
    return [item.__index__() for item in items]


def read_text(path: str | os.PathLike[str]) -> str:
    """A file that must be UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)}: not valid UTF-8 at byte {error.start}") from None


def numbered_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file that are not blank, with their numbers from 1. Only a newline ends a line: JSON may
    hold whatever else Unicode calls one.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line
