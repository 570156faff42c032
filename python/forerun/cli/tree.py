from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forerun import tree_page
from forerun.cli import common
from forerun.types import Sampling


@common.shares(engine=common.engine_options, sampling=common.sampling_options)
def tree(
    model: common.Model,
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    engine: dict[str, Any],
    sampling: Sampling,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("tree.html"),
    step: Annotated[int, typer.Option(help="The first step to show.")] = 1,
    steps: Annotated[int, typer.Option(help="How many steps to show.")] = 12,
    budget: Annotated[
        int | None,
        typer.Option(help="Draft tokens in every step.", show_default="what measured costs favour"),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Wrap the prompt in the model's chat template.")] = False,
    seed: common.Seed = 0,
) -> None:
    """Draw the draft trees of decode steps as an HTML page: what was guessed, by whom, and what was kept."""
    common.at_least(1, step=step, steps=steps)
    common.at_least(0, budget=budget)
    common.writable(out=out)
    text = common.prompt_text(prompt)
    about = {"model": Path(model).name, "draft": engine["draft"], "verify": engine["verify"]}
    if sampling.temperature > 0:
        about |= {"temperature": f"{sampling.temperature:g}", "seed": str(seed)}
    with common.load(model, fixed_draft=budget, **engine) as loaded:
        growth = tree_page.grow(
            loaded, text, first=step, steps=steps, sampling=sampling, seed=seed, chat=chat, about=about
        )
    out.write_text(tree_page.render(growth), encoding="utf-8")
    common.say(str(out))
