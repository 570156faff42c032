from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from forerun.bench import PREFILL_TOKENS, BenchOptions, profile, read_prompts
from forerun.bench import bench as measure
from forerun.cli import common
from forerun.profile import save_trace
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
    profiled: Annotated[
        bool, typer.Option("--profile", help="Instead: where the time of a step goes, by operation.")
    ] = False,
    rows: Annotated[int | None, typer.Option(help="With --profile: also of target forwards of so many rows.")] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="OUT", help="With --profile: save a Chrome trace (Perfetto).")
    ] = None,
) -> None:
    """Measure a model here: bandwidth, verify cost, prefill, speculation against plain decoding."""
    common.at_least(1, tokens=tokens, repeats=repeats, limit=limit, rows=rows)
    if not profiled:
        common.at_least(PREFILL_TOKENS, context=engine["context"])
    common.writable(json=save, trace=trace)
    if not profiled and (rows, trace) != (None, None):
        raise typer.BadParameter("--rows and --trace belong to --profile")
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

        def report(phase: str, done: int, total: int) -> None:
            bar.update(task, description=phase, completed=done, total=total)

        if profiled:
            result, profiles = profile(model, options, entries[0] if entries else None, rows, report)
        else:
            result = measure(model, options, entries, report)
    if trace is not None:
        save_trace(trace, profiles)
    if save == "-":
        common.print_json(result)
        return
    if save is not None:
        Path(save).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if profiled:
        _show_profile(result)
        return
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


def _show_profile(result: dict[str, Any]) -> None:
    machine, bandwidth = result["machine"], result["bandwidth_gbs"]
    about = f"{machine['cpu']}, {machine['threads']} threads, {machine['isa']} kernels"
    common.out.print(f"{about}; read bandwidth {bandwidth:.1f} GB/s", markup=False)
    titles = {
        "plain": "Plain decoding",
        "speculative": "Speculative decoding",
        "rows": "Target forward of a tree",
    }
    for section, costs in result["profile"].items():
        table = Table(
            *("operation", "calls", "us", "share", "MB", "GB/s", "GOP/s", "bound by"),
            title=f"{titles[section]}: {costs['ms']:.2f} ms a step, {costs['rows']:.1f} rows, {costs['steps']} steps",
        )
        for column in table.columns[1:-1]:
            column.justify = "right"
        for cost in costs["operations"]:
            table.add_row(
                cost["name"],
                f"{cost['calls']:.4g}",
                f"{cost['ms'] * 1000:.1f}",
                f"{cost['share']:.1%}",
                f"{cost['bytes'] / 1e6:.2f}" if cost["bytes"] else "",
                f"{cost['gb_per_s']:.1f}" if cost["bytes"] else "",
                f"{cost['gop_per_s']:.1f}" if cost["operations"] else "",
                cost["bound"],
            )
        common.out.print(table)
        common.out.print(f"outside matmul and attention: {costs['outside']:.1%}")
