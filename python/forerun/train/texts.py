"""Texts to learn from; and plain text that any Python on Debian has, and whose licences allow training.

- Python's standard library (PSF licence), without its tests;
- /usr/share/doc of the packages whose machine-readable copyright file names permissive licences only.
"""

from __future__ import annotations

import gzip
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forerun.types import Features

PERMISSIVE = re.compile(
    r"(?:expat|mit|isc|zlib|libpng|bsd(?:-[\w-]+)?|apache-2(?:\.0)?|psf(?:-[\d.]+)?|python-2\.[\d.]+|public-domain|"
    r"cc0(?:-1\.0)?|unicode(?:-[\w-]+)?|0bsd|permissive|x11)\+?",
    re.IGNORECASE,
)
_DOCUMENTS = re.compile(r"(?:readme|news|faq|.*\.(?:txt|md|rst))(?:\.[\w-]+)*(?:\.gz)?", re.IGNORECASE)
_LARGEST = 400_000  # bytes of one file; larger ones are tables rather than text


class Text(NamedTuple):
    """tokens, the first of them to be predicted, and what was recorded of all but the last, if it was."""

    tokens: list[int]
    learn_from: int
    recorded: Features | None = None


def standard_library(folder: Path | None = None) -> Iterator[str]:
    """The source files of Python's standard library."""
    root = folder or Path(sysconfig.get_path("stdlib"))
    skipped = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3", "encodings"}
    for path in sorted(root.rglob("*.py")):
        if not skipped & set(path.relative_to(root).parts):
            yield from _read(path)


def documentation(root: Path = Path("/usr/share/doc")) -> Iterator[str]:
    """The documents of the packages under `root` that may be used freely."""
    for package in sorted(root.iterdir()) if root.is_dir() else []:
        if not package.is_dir() or package.is_symlink() or not permissive(package / "copyright"):
            continue
        for path in sorted(package.rglob("*")):
            if path.is_file() and not path.is_symlink() and _DOCUMENTS.fullmatch(path.name):
                yield from _read(path)


def permissive(copyright_file: Path) -> bool:
    """Whether a Debian copyright file (DEP-5) names licences and all of them are permissive."""
    try:
        text = copyright_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if not text.lstrip().startswith("Format:"):
        return False
    names = re.findall(r"^License:[ \t]*(.*)$", text, re.MULTILINE)
    parts = [part.strip() for name in names for part in re.split(r"\s+(?:and|or)\s+|,", name) if part.strip()]
    return bool(parts) and all(PERMISSIVE.fullmatch(part) for part in parts)


def excerpts(texts: Iterator[str], count: int, characters: int, seed: int) -> list[str]:
    """`count` pieces of at most that many characters, each from a line's beginning, of texts chosen at random."""
    pool = [text for text in texts if len(text) >= 200]
    pick = random.Random(seed)
    found = []
    for _ in range(count if pool else 0):
        text = pick.choice(pool)
        begin = text.rfind("\n", 0, pick.randrange(len(text))) + 1
        found.append(text[begin : begin + characters])
    return [text for text in found if text.strip()]


def pieces(tokens: list[int], most: int) -> list[Text]:
    """A text as one or more of at most so many tokens."""
    return [Text(tokens[begin : begin + most], 1) for begin in range(0, len(tokens), most)]


def _read(path: Path) -> Iterator[str]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError):
        return
    if 0 < len(text) <= _LARGEST:
        yield text
