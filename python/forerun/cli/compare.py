from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated

import typer
from rich import table as rich_table
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from forerun import plots, report
from forerun.bench import BenchOptions, read_prompts
from forerun.cli import common
from forerun.compare import Comparison, grid, summarise
from forerun.types import Sampling

_GRID = "Grid (lists joined by commas)"


def compare(
    model: common.Model,
    prompts: Annotated[Path, typer.Option(help='JSON lines of {"id", "category", "prompt"}.')],
    out: Annotated[Path, typer.Option(help="Folder for runs.jsonl, summary.md and the plots.")],
    draft: Annotated[str, typer.Option(help="Drafters, as for generate.", rich_help_panel=_GRID)] = "auto",
    policy: Annotated[str, typer.Option(help="Policies.", rich_help_panel=_GRID)] = "auto",
    verify: Annotated[str, typer.Option(help="Verifiers.", rich_help_panel=_GRID)] = "match",
    budgets: Annotated[
        str | None,
        typer.Option(help="Also with so many draft tokens in every step, as 0,4,8,16,32.", rich_help_panel=_GRID),
    ] = None,
    option: common.MethodOption = None,
    tokens: Annotated[int, typer.Option(help="Tokens per prompt at most.")] = 128,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    repeats: Annotated[int, typer.Option(help="Passes over the prompts; the median counts.")] = 1,
    paired: Annotated[
        bool, typer.Option("--paired", help="Plain decoding again beside every run: for a machine that others use.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="No chat template around the prompts.")] = False,
    temperature: common.Temperature = 0.0,
    seed: common.Seed = 0,
    device: common.Device = "cpu",
    threads: common.Threads = None,
    context: common.Context = None,
    kv_type: common.KvType = "f16",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the runs that the folder holds.")] = False,
) -> int:
    """Measure combinations of methods against plain decoding, on the same prompts."""
    common.at_least(1, tokens=tokens, repeats=repeats, limit=limit)
    combinations = grid(
        _names("draft", draft),
        _names("policy", policy),
        _names("verify", verify),
        _counts("budgets", budgets),
        common.method_options(option),
    )
    options = BenchOptions(
        device=device,
        threads=threads,
        context=context,
        kv_type=kv_type,
        tokens=tokens,
        sampling=Sampling(temperature=temperature),
        seed=seed,
        raw=raw,
    )
    entries = read_prompts(prompts)[:limit]
    comparison = Comparison(model, entries, options, out, repeats=repeats, paired=paired, resume=resume)
    interrupted = _run(comparison, combinations)
    broken = _show(comparison, out)
    if interrupted:
        common.err.print("stopped; --resume goes on", style="yellow")
        return 130
    return common.fail("texts differ where they must not: " + ", ".join(broken), 1) if broken else 0


def _run(comparison: Comparison, combinations: list) -> bool:
    """Whether Ctrl-C ended it."""
    bar = Progress(
        TextColumn("{task.description:<44.44}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=common.err,
        transient=True,
        disable=not common.err.is_terminal,
        speed_estimate_period=600.0,
    )
    with bar:
        task = bar.add_task("loading", total=None)
        try:
            comparison.run(
                combinations,
                lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            )
        except KeyboardInterrupt:
            return True
    return False


def _show(comparison: Comparison, out: Path) -> list[str]:
    """Tables and plots of what is done; returns the runs whose text differs and must not."""
    if not comparison.lines:
        return []
    common.say(report.describe(comparison))
    for table in report.tables(comparison):
        common.out.print()
        common.out.print(_table(table))
    (out / "summary.md").write_text(report.markdown(comparison), encoding="utf-8")
    try:
        written = plots.write(comparison, out)
    except ImportError:
        written = []
        common.err.print("no plots: they need matplotlib, pip install 'forerun\\[plot]'", style="yellow")
    common.say(f"{out}: {', '.join(['runs.jsonl', 'summary.md', *written])}")
    return [f"{entry['label']}: {name}" for entry in summarise(comparison) for name in entry["broken"]]


def _table(table: report.Table) -> rich_table.Table:
    # No lines: a table by prompt group is wide.
    shown = rich_table.Table(title=Text(table.title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    narrowest = min(18, max((len(row[0]) for row in table.rows), default=0))
    for index, name in enumerate(table.columns):
        justify = "left" if index == 0 or len(table.columns) == 2 else "right"
        # A heading may be broken, a figure must not be.
        heading = "\n".join(textwrap.wrap(name.replace("_", " "), 8)) if justify == "right" else name
        shown.add_column(
            heading,
            justify=justify,
            overflow="fold",
            no_wrap=justify == "right",
            min_width=None if index else narrowest,
        )
    for row in table.rows:
        bad = any(cell.startswith("NO") for cell in row)
        shown.add_row(*map(Text, row), style="bold red" if bad else None)
    return shown


def _names(option: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise typer.BadParameter(f"--{option}: expected names joined by commas, found {text!r}")
    return names


def _counts(option: str, text: str | None) -> list[int]:
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"--{option}: expected numbers from 0 up joined by commas, found {text!r}")
    return [int(part) for part in parts]
