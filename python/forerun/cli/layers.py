from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from forerun import layers as layer_search
from forerun.cli import common


def layers(
    model: Annotated[str, typer.Argument(help="The model: a file, a folder or a pulled name.")],
    skip: Annotated[int | None, typer.Option(help="Layers to leave out; a third of them when not given.")] = None,
    parallel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUPS",
            help="Measure groups of a draft model's layers side by side instead: a size, or 1-4,5-8; repeatable.",
        ),
    ] = None,
    text: Annotated[Path | None, typer.Option(help="A text to choose by; else the target's own answers.")] = None,
    threads: Annotated[int | None, typer.Option(help="Worker threads.")] = None,
) -> None:
    """Choose which layers the drafter early-exit leaves out, and show what each costs in agreement.

    With --parallel: what it costs a draft model to compute the attention of some layers side by side.
    """
    if parallel and skip is not None:
        raise typer.BadParameter("--skip: belongs to the search for layers to leave out, not to --parallel")
    given = None if text is None else text.read_text(encoding="utf-8", errors="replace")
    with common.load(model, draft="none", threads=threads) as engine:
        if given is None:
            texts = layer_search.answers(engine)
        else:
            tokens = engine.encode(given)
            texts = [tokens[: min(1024, engine.info["context"])]]
        if parallel:
            shares = layer_search.parallel(engine, texts, parallel)
            table = Table("option model.parallel_layers", "agreement")
            for grouping, share in zip(parallel, shares, strict=True):
                table.add_row(grouping, f"{share:.3f}")
            common.out.print(table)
            return
        count = max(engine.info["layers"] // 3, 1) if skip is None else skip
        with common.progress_bar("searching") as bar:
            choice = layer_search.choose(engine, texts, count, lambda done, of: bar(done / of))
    table = Table("left out", "agreement", "option early-exit.skip")
    for i, share in enumerate(choice.agreement, 1):
        table.add_row(str(i), f"{share:.3f}", choice.option(i))
    common.out.print(table)
