"""What arguments must be, before they reach the native side. Each raises ValueError naming the argument."""

from __future__ import annotations

import os
from collections.abc import Iterable
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
