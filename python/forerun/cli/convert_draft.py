from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forerun import models
from forerun.cli import common


def convert_draft(
    source: Annotated[
        Path, typer.Argument(help="A folder with config.json and a .safetensors, .bin or .pt file of weights.")
    ],
    file: Annotated[Path, typer.Argument(help="The draft file to write.")],
    target: Annotated[str, typer.Option(help="The model that it drafts for: a file, a folder or a pulled name.")],
    weights: Annotated[str, typer.Option(help="q8_0, q4_1, f16 or f32.")] = "q8_0",
    exit_layer: Annotated[int, typer.Option(help="Of Kangaroo: the target's layers before it.")] = 0,
) -> None:
    """Make a draft file of a public head (EAGLE-1/2/3, DGF, Medusa, Hydra, Kangaroo), for Engine(draft="head:FILE")."""
    try:
        from forerun import convert_draft as convert
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is missing: pip install 'forerun[convert]'", name=error.name) from None
    made = convert.convert_draft(source, file, models.resolve(target), weights=weights, exit_layer=exit_layer)
    blocks = f"{made['blocks']} block{'s' if made['blocks'] > 1 else ''}"
    size = file.stat().st_size / 1e6
    common.say(f"{file}: {made['family']}, {blocks}, {size:,.1f} MB, for {common.printable(made['target.name'])}")
