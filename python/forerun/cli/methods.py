from __future__ import annotations

from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from forerun.cli import common
from forerun.methods import Method, drafters, policies, verifiers


def methods(as_json: common.AsJson = False) -> None:
    """List what can be chosen by name: drafters, tree policies, verifiers."""
    lists = {"drafters": drafters(), "policies": policies(), "verifiers": verifiers()}
    if as_json:
        common.print_json({kind: [asdict(method) for method in found] for kind, found in lists.items()})
        return
    titles = {
        "drafters": "Drafters: --draft, joined by '+'; also none and auto",
        "policies": "Policies: --policy, how the tree of a draft model, a head or early-exit grows",
        "verifiers": "Verifiers: --verify, which branch is kept",
    }
    width = max(len(method.name) for found in lists.values() for method in found)
    for kind, found in lists.items():
        common.out.print(Text(titles[kind], style="bold"))
        common.out.print(_table(found, width))


def _table(found: list[Method], width: int) -> Table:
    table = Table()
    table.add_column("name", style="bold", min_width=width, no_wrap=True)
    table.add_column("lossless", no_wrap=True)
    table.add_column("what it does, and its paper")
    for method in found:
        lossless = Text("yes") if method.lossless else Text("no", style="yellow")
        what = Text(method.summary)
        if method.paper:
            what.append(f"\n{method.paper}", style="dim")
        table.add_row(method.name, lossless, what)
    return table
