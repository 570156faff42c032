from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from forerun import models
from forerun.cli import common


def pull(
    name: Annotated[str | None, typer.Argument(help="A name from --list, or hf:ORG/REPO/FILE.")] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the models known by name.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Fetch a model into the cache; an interrupted pull goes on where it was."""
    if show_list:
        _list(as_json)
        return
    if name is None:
        raise typer.BadParameter("name a model, or see: forerun pull --list")
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=common.err,
        disable=not common.err.is_terminal,
    )
    with bar:
        task = bar.add_task(name, total=None)
        path = models.pull(name, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        common.print_json({"name": name, "path": str(path)})
    else:
        print(path)


def _list(as_json: bool) -> None:
    known = models.catalogue().values()
    if as_json:
        rows = [
            {
                "name": model.name,
                "about": model.about,
                "file": model.file,
                "bytes": model.bytes,
                "license": model.license,
                "pulled": model.pulled,
                "path": str(model.path),
            }
            for model in known
        ]
        common.print_json(rows)
        return
    table = Table("name", "MB", "licence", "pulled", "what")
    for model in known:
        pulled = "yes" if model.pulled else ""
        table.add_row(model.name, f"{model.bytes / 1e6:,.0f}", model.license, pulled, model.about)
    common.out.print(table)
