from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from forerun import _core, models
from forerun.cli import common


def inspect(
    file: Annotated[str, typer.Argument(help="A .gguf file, a Hugging Face folder or a pulled model's name.")],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Show what a model file holds and whether it can be run; nothing is loaded."""
    report = _core.inspect(models.resolve(file))
    if as_json:
        common.print_json(report)
        return
    common.out.print(_summary(report))
    common.out.print(_metadata(report["metadata"]))
    common.out.print(_all_tensors(report["tensors"]) if tensors else _by_type(report["tensors"]))


def _summary(report: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    verdict = (
        Text("yes", style="green")
        if report["supported"]
        else Text(f"no: {common.printable(report['reason'], 200)}", style="red")
    )
    rows = {
        "file": Text(common.printable(report["path"], 200)),
        "format": Text(common.printable(report["format"])),
        "size": Text(f"{report['file_bytes'] / 1e6:,.1f} MB"),
        "architecture": Text(common.printable(report["architecture"])),
        "parameters": Text(f"{report['parameters'] / 1e6:,.1f} M"),
        "supported": verdict,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _metadata(metadata: dict[str, Any]) -> Table:
    table = Table("metadata", "value")
    for name, value in metadata.items():
        table.add_row(Text(common.printable(name)), Text(common.printable(value)))
    return table


def _by_type(tensors: list[dict[str, Any]]) -> Table:
    table = Table("type", "tensors", "MB")
    counts, sizes = Counter(), Counter()
    for tensor in tensors:
        counts[tensor["dtype"]] += 1
        sizes[tensor["dtype"]] += tensor["bytes"]
    for dtype, size in sizes.most_common():
        table.add_row(Text(str(dtype)), f"{counts[dtype]}", f"{size / 1e6:,.1f}")
    return table


def _all_tensors(tensors: list[dict[str, Any]]) -> Table:
    table = Table("tensor", "type", "shape", "MB")
    for tensor in tensors:
        shape = " x ".join(str(size) for size in tensor["shape"])
        name = Text(common.printable(tensor["name"]))
        table.add_row(name, Text(str(tensor["dtype"])), shape, f"{tensor['bytes'] / 1e6:,.2f}")
    return table
