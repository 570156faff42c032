"""Draft specifications such as "auto" or "suffix+head:NAME", and where the names in them lie."""

from __future__ import annotations

import os
import re
from pathlib import Path

from forerun import models
from forerun._core import ModelFileError
from forerun.methods import drafters

HEADS = Path(__file__).parent / "heads"  # draft heads that come with the package


def resolve_draft(draft: str) -> str:
    """Replaces names in a draft specification by paths: of a pulled draft model, of a head of the package.

    Everything else is left to the native side, which knows the drafters and their order. Raises ModelFileError and
    ValueError for a model as `models.resolve` does, and for a head likewise.
    """
    if not isinstance(draft, str):
        raise ValueError(f"draft: expected a string, found {type(draft).__name__}")
    return "+".join(_with_path(*piece.partition(":")) for piece in split_draft(draft))


def split_draft(draft: str) -> list[str]:
    """The drafters of a draft specification: "ngram+model:a+b" is "ngram" and "model:a+b"."""
    names = "|".join(["auto", *(re.escape(method.name) for method in drafters())])
    return re.split(rf"\+(?=(?:{names})(?:[:+]|$))", draft)


def head_folders() -> list[Path]:
    """Where "auto" and names of heads are looked up: what the user put beside the models, then the package."""
    return [folder for folder in (models.heads_dir(), HEADS) if folder.is_dir()]


def _with_path(name: str, colon: str, path: str) -> str:
    if name == "model" and path:
        path = models.resolve(path)
    if name == "head" and path and not Path(path).exists():
        path = _named_head(path)
    return name + colon + path


def _named_head(name: str) -> str:
    known = {file.stem: str(file) for folder in reversed(head_folders()) for file in folder.glob("*.gguf")}
    if name in known:
        return known[name]
    if "/" in name or os.sep in name or name.endswith(".gguf"):
        raise ModelFileError(f"{name}: no such file")
    raise ValueError(
        f"unknown head {name!r}: neither a file nor a name; known names: {', '.join(sorted(known))} (others belong in "
        f"{models.heads_dir()})"
    )
