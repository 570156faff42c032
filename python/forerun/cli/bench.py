from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from forerun.bench import BenchOptions, read_prompts
from forerun.bench import bench as measure
from forerun.cli import common
from forerun.types import Sampling


@common.shares(engine=common.engine_options)
def bench(
    model: common.Model,
    engine: dict[str, Any],
    prompts: Annotated[
        Path | None,
        typer.Option(help='JSON lines of {"id", "category", "prompt"}; adds plain against speculative.'),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens per prompt at most.")] = 128,
    repeats: Annotated[int, typer.Option(help="Repeats of each verify timing.")] = 9,
    raw: Annotated[bool, typer.Option("--raw", help="No chat template around the prompts.")] = False,
    temperature: common.Temperature = 0.0,
    seed: common.Seed = 0,
    save: Annotated[str | None, typer.Option("--json", metavar="OUT", help="Save the figures; - prints them.")] = None,
) -> None:
    """Measure a model here: bandwidth, verify cost, prefill, speculation against plain decoding."""
    for name, value in (("tokens", tokens), ("repeats", repeats), ("limit", limit)):
        if value is not None and value < 1:
            raise typer.BadParameter(f"--{name}: expected at least 1, found {value}")
    if save not in (None, "-") and not Path(save).resolve().parent.is_dir():
        raise typer.BadParameter(f"--json: no such folder: {Path(save).resolve().parent}")
    options = BenchOptions(
        **engine,
        tokens=tokens,
        repeats=repeats,
        sampling=Sampling(temperature=temperature),
        seed=seed,
        raw=raw,
    )
    entries = read_prompts(prompts)[:limit] if prompts is not None else []
    bar = Progress(
        TextColumn("{task.description:<24.24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=common.err,
        transient=True,
        disable=not common.err.is_terminal,
    )
    with bar:
        task = bar.add_task("loading", total=None)
        result = measure(
            model,
            options,
            entries,
            lambda phase, done, total: bar.update(task, description=phase, completed=done, total=total),
        )
    if save == "-":
        common.print_json(result)
        return
    if save is not None:
        Path(save).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _show_target(result)
    if entries:
        _show_summary(result)


def _show_target(result: dict[str, Any]) -> None:
    machine = result["machine"]
    common.out.print(
        f"{machine['cpu']}, {machine['threads']} threads, {machine['isa']} kernels; "
        f"read bandwidth {result['bandwidth_gbs']:.1f} GB/s",
        markup=False,
    )
    common.out.print(
        f"{result['weights_bytes'] / 1e6:,.0f} MB read per token, "
        f"{result['bandwidth_fraction']:.2f} of the bandwidth at one row; "
        + ", ".join(f"prefill of {tokens}: {speed:,.0f} tokens/s" for tokens, speed in result["prefill_tps"].items())
    )
    table = Table("rows at once", *result["verify_ms"], title="Cost of a target forward")
    table.add_row("ms", *(f"{value:.2f}" for value in result["verify_ms"].values()))
    table.add_row("of one row", *(f"{value:.2f}" for value in result["verify_ratio"].values()))
    common.out.print(table)


def _show_summary(result: dict[str, Any]) -> None:
    table = Table(
        *("category", "prompts", "plain", "speculative", "ratio", "slowest", "tau", "same text"),
        title=f"Tokens/s while decoding, draft {result['draft']} (geometric means)",
    )
    for category, row in result["summary"].items():
        last = category == "overall"
        table.add_row(
            Text(category),
            str(row["prompts"]),
            f"{row['plain_tps']:.1f}",
            f"{row['spec_tps']:.1f}",
            f"{row['ratio']:.2f}x",
            f"{row['slowest_ratio']:.2f}x",
            f"{row['tau']:.2f}",
            "yes" if row["identical"] else Text("NO", style="bold red"),
            style="bold" if last else None,
        )
    common.out.print(table)
