from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forerun import _core, models
from forerun.cli import common

app = typer.Typer(name="datastore", help="Texts to draft from: Engine(draft='retrieval:FILE').", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def build(
    file: Annotated[Path, typer.Argument(help="The datastore to write.")],
    texts: Annotated[list[Path], typer.Argument(help="Text files in UTF-8, one text each.")],
    tokenizer: Annotated[str, typer.Option(help="The model that it is for: a file, a folder or a pulled name.")],
    lines: Annotated[bool, typer.Option("--lines", help="Every line is a text of its own.")] = False,
) -> None:
    """Build a datastore of text files for one model's vocabulary."""
    native = _core.Tokenizer(models.resolve(tokenizer))
    encoded = []
    for path in texts:
        content = path.read_text(encoding="utf-8", errors="replace")
        for text in content.splitlines() if lines else [content]:
            encoded.append(native.encode(text, add_special=False))
    _core.build_datastore(str(file), native, [tokens for tokens in encoded if tokens])
    count = sum(len(tokens) for tokens in encoded)
    common.say(f"{file}: {count:,} tokens of {len(texts):,} files, {file.stat().st_size / 1e6:,.1f} MB")
