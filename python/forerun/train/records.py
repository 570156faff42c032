"""Files of one JSON object a line that are their own state: a line that a kill cut off is dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, none if there is no file; a last line that was cut off is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


@contextmanager
def appended_records(path: Path) -> Iterator[Callable[[Any], None]]:
    """A function that appends a dataclass's fields as one line, at once; a line that was cut off goes first."""
    if path.exists():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            path.write_bytes(data[: data.rfind(b"\n") + 1])
    with path.open("a", encoding="utf-8") as out:

        def write(record: Any) -> None:
            out.write(json.dumps(record.__dict__, separators=(",", ":")) + "\n")
            out.flush()

        yield write
