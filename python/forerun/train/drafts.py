"""Drafts of any family: new ones, and those of draft files."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from forerun.draft_file import Target, read_draft
from forerun.train.adapters import Adapter
from forerun.train.config import STACKED, DraftConfig
from forerun.train.models import Draft, DraftBase
from forerun.train.spans import Falcon
from forerun.train.stacks import Stacks
from forerun.train.target import TargetParts
from forerun.train.trigrams import Chimera

_KINDS = {"medusa": Stacks, "hydra": Stacks, "kangaroo": Adapter, "chimera": Chimera, "falcon": Falcon}


def make_draft(config: DraftConfig, embedding: Tensor, head: Tensor, draft_tokens: Tensor, seed: int) -> DraftBase:
    """A draft with seeded random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draft = _KINDS.get(config.family, Draft)(config, embedding, head, draft_tokens)
        draft.initialise()
    return draft


def load_draft(path: Path, target: TargetParts) -> DraftBase:
    """The draft of a file, with the weights as the runtime reads them.

    Raises forerun.ModelFileError for a file that is malformed, ValueError for one that was made for another target or
    has a graph that `forerun train draft` does not write.
    """
    metadata, tensors = read_draft(path)
    _check_target(path, metadata, target)
    config = _config(path, metadata, tensors, target)
    tokens = tensors.pop("draft_tokens", np.arange(target.vocab))
    tensors = {name: value for name, value in tensors.items() if not name.startswith("accept.")}
    head, embedding = torch.from_numpy(target.head), torch.from_numpy(target.embedding)
    draft = make_draft(config, embedding, head, torch.from_numpy(tokens.astype(np.int64)), 0)
    wanted = draft.state_dict()
    if not config.own_head:
        del wanted["head.weight"]
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        expected = tuple(wanted[name].shape) if name in wanted else "none"
        if shapes.get(name, "none") != expected:
            raise ValueError(
                f"{path}: tensor {name}: expected {expected}, found {shapes.get(name, 'none')}; only drafts with the "
                f"graph of `forerun train draft` can be trained on"
            )
    draft.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()}, strict=False)
    return draft


def _check_target(path: Path, metadata: dict, target: Target) -> None:
    for key, wanted in target.metadata().items():
        found = metadata.get(key, "" if key == "target.tokenizer" else None)
        if key != "target.name" and found != wanted and not (key == "target.tokenizer" and not found):
            raise ValueError(f"{path}: {key} is {found}, the target has {wanted}: it was made for another target")


def _config(path: Path, metadata: dict, tensors: dict, target: Target) -> DraftConfig:
    family = metadata.get("family")
    if metadata.get("norm_before_residual"):
        raise ValueError(
            f"{path}: norm_before_residual: only drafts with the graph of `forerun train draft` can be trained on"
        )
    shape = {field.name: metadata[field.name] for field in fields(DraftConfig) if field.name in metadata}
    shape["taps"] = list(shape.get("taps", []))
    if family in STACKED:
        first = ".block.0.weight" if family == "medusa" else ".in.weight"
        shape["blocks"] = metadata.get("blocks", 0)
        shape["stacks"] = sum(name.startswith(family + ".") and name.endswith(first) for name in tensors)
        layers = sum(name.startswith(f"{family}.0.block.") and name.endswith(".weight") for name in tensors)
        shape["stack_layers"] = layers + (family == "hydra")
    missing = {"family", "width"} - shape.keys()
    if missing:
        raise ValueError(f"{path}: forerun.draft.{min(missing)} is missing")
    own = f"{family}.0.head.weight" if family in STACKED else "head.weight"
    size = len(tensors["draft_tokens"]) if "draft_tokens" in tensors else target.vocab
    return DraftConfig(**shape, own_head=own in tensors, draft_vocab=size)
