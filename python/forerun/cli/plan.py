from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from forerun.cli import common
from forerun.placement import Plan, Plans
from forerun.placement import plan as make_plans


def plan(
    model: common.Model,
    drafts: Annotated[list[str] | None, typer.Argument(help="Draft models; the best or none is chosen.")] = None,
    vram: common.Vram = None,
    ram: common.Ram = None,
    context: Annotated[int, typer.Option(help="Positions whose keys and values must fit.")] = 2048,
    threads: common.Threads = None,
    overlap: Annotated[bool, typer.Option(help="Draft on while the target verifies.")] = True,
    simulate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE:KEY=VALUE,...",
            help="Imagine a device: cuda:0:bandwidth=448,compute=11000,link=12,latency=10; repeatable.",
        ),
    ] = None,
    acceptance: Annotated[
        float | None,
        typer.Option(help="How often the draft's best guess is right.", show_default="tried on a short text"),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure again even if there is a profile.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the best plan, for --placement.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Plan which device holds what: layers, draft, tree size, with predicted memory and speed."""
    common.writable(save=save)
    with common.err.status("measuring this machine") as status:
        found = make_plans(
            model,
            drafts or (),
            vram_limit=vram,
            ram_limit=ram,
            context=context,
            threads=threads,
            overlap=overlap,
            simulate=dict(_device(text) for text in simulate or ()),
            acceptance=acceptance,
            measure=measure,
            progress=lambda what: status.update(Text(f"measuring {common.printable(what)}")),
        )
    if save is not None:
        found.best.save(save)
    if as_json:
        common.print_json({"plans": [json.loads(one.json) for one in found.plans], "profile": found.profile})
        return
    _show(found)


def _show(found: Plans) -> None:
    table = Table(title=Text("Plans, best first", style="bold"), title_justify="left")
    for name in ("layers", "head", "draft"):
        table.add_column(name)
    for name in ("nodes", "depth", "memory", "step", "tokens/s"):
        table.add_column(name, justify="right", no_wrap=name != "memory")
    for index, one in enumerate(found.plans):
        table.add_row(*_row(one), style="bold" if index == 0 else None)
    common.out.print(table)
    common.say(f"Best: {found.best.why}.")
    source = "measured now" if found.measured else "measured before"
    common.out.print(Text(f"Profile {source}{': ' + found.cache_file if found.cache_file else ''}", style="dim"))


def _row(one: Plan) -> tuple[str, ...]:
    drafts = one.drafter != "none"
    draft = f"{Path(one.drafter).name} on {one.draft}" if drafts else "none"
    memory = "\n".join(f"{device} {size / 2**20:.0f} MiB" for device, size in one.memory.items())
    return (
        "\n".join(f"{layers} {device}" for layers, device in one.layers.items()),
        one.head,
        draft,
        str(one.nodes),
        str(one.depth),
        memory,
        f"{one.step_ms:.1f} ms",
        f"{one.tokens_per_second:.1f}",
    )


def _device(text: str) -> tuple[str, str]:
    """ "cuda:0:bandwidth=448" -> "cuda:0", "bandwidth=448"."""
    device, colon, spec = text.rpartition(":")
    if not colon or "=" not in spec:
        raise ValueError(f"--simulate: expected such as cuda:0:bandwidth=448,compute=11000, found {text!r}")
    return device, spec
