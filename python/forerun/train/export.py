"""Writes a trained draft as the file that the runtime loads (docs/formats.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forerun import draft_file
from forerun.draft_file import Target
from forerun.train.models import DraftBase


def export(draft: DraftBase, target: Target, path: Path, name: str, weights: str = "q8_0", licence: str = "") -> int:
    """Writes the file whole or not at all; returns its size in bytes.

    Matrices become `weights`, vectors stay float32. Raises ValueError for a width that q8_0 cannot hold.
    """
    found = tensors(draft)
    if len(draft.draft_tokens) < target.vocab:
        found = {"draft_tokens": draft.draft_tokens.cpu().numpy(), **found}
    metadata = {**draft.config.metadata(), **target.metadata()}
    return draft_file.write_draft(path, metadata, found, name=name, licence=licence, weights=weights)


def tensors(draft: DraftBase) -> dict[str, np.ndarray]:
    """The tensors of the file, float32, by name. A head that is the target's is not among them."""
    return {
        name: value.detach().float().cpu().numpy()
        for name, value in draft.state_dict().items()
        if draft.config.own_head or name != "head.weight"
    }


def as_stored(draft: DraftBase, weights: str = "q8_0") -> dict[str, np.ndarray]:
    """The tensors as the runtime reads them back: with the rounding of `weights`."""
    return draft_file.as_stored(tensors(draft), weights)
