"""What the subcommands share: option types, consoles, loading with a progress bar, printing."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from forerun.engine import Engine
from forerun.types import Sampling, Stats

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Model = Annotated[
    str,
    typer.Argument(help="A .gguf file, a Hugging Face folder or the name of a pulled model."),
]
Draft = Annotated[
    str,
    typer.Option(help="What runs ahead: none, auto, ngram, recycle, model:PATH, or several joined by '+'."),
]
Threads = Annotated[int | None, typer.Option(help="Worker threads [default: the usable cores].")]
Context = Annotated[int | None, typer.Option(help="Longest sequence in tokens.")]
KvType = Annotated[str, typer.Option(help="How keys and values are kept: f16, f32 or q8_0 (half the memory).")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", help="Stop after this many tokens.")]
Seed = Annotated[int, typer.Option(help="With a temperature above 0: one seed, one text.")]
Stop = Annotated[list[str] | None, typer.Option(help="A string that ends the text; repeatable.")]
ShowStats = Annotated[bool, typer.Option("--stats", help="Show counts and speeds at the end.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_SAMPLING = "Sampling"
Temperature = Annotated[float, typer.Option(help="0 takes the likeliest token.", rich_help_panel=_SAMPLING)]
TopK = Annotated[int, typer.Option(help="0 keeps all tokens.", rich_help_panel=_SAMPLING)]
TopP = Annotated[float, typer.Option(help="1 keeps all tokens.", rich_help_panel=_SAMPLING)]
MinP = Annotated[float, typer.Option(help="0 keeps all tokens.", rich_help_panel=_SAMPLING)]
RepetitionPenalty = Annotated[float, typer.Option(help="1 is off.", rich_help_panel=_SAMPLING)]
FrequencyPenalty = Annotated[float, typer.Option(help="0 is off.", rich_help_panel=_SAMPLING)]
PresencePenalty = Annotated[float, typer.Option(help="0 is off.", rich_help_panel=_SAMPLING)]

# Control characters but tab and newline: text from a model or a file must not drive the terminal.
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))


def fail(message: object, code: int) -> int:
    """One line on stderr; returns the exit code."""
    if os.environ.get("FORERUN_DEBUG"):
        err.print_exception()
    line = " ".join(str(message).split()) or type(message).__name__
    print(f"forerun: {line.translate(_CONTROLS)}", file=sys.stderr)
    return code


def show(piece: str) -> None:
    """Writes a piece of generated text at once; on a terminal without its control characters."""
    sys.stdout.write(piece.translate(_CONTROLS) if sys.stdout.isatty() else piece)
    sys.stdout.flush()


def printable(value: Any, limit: int = 80) -> str:
    """A value from a file as one short line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def load(model: str, draft: str, threads: int | None, context: int | None, kv_type: str = "f16") -> Engine:
    """An Engine, with a bar on stderr while it loads (on a terminal)."""
    bar = Progress(
        TextColumn("loading"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    with bar:
        task = bar.add_task("loading", total=1.0)
        return Engine(
            model,
            draft=draft,
            threads=threads,
            context=context,
            kv_type=kv_type,
            progress=lambda share: bar.update(task, completed=share),
        )


def sampling_of(
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    frequency_penalty: float,
    presence_penalty: float,
) -> Sampling:
    return Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
    )


def describe(stats: Stats) -> str:
    """The statistics of a generation on one line."""
    line = (
        f"{stats.tokens} tokens in {stats.steps} steps, {stats.tokens_per_second:.1f} tokens/s, "
        f"tau {stats.tau:.2f}, accepted {stats.accepted} of {stats.drafted} drafted; "
        f"prompt {stats.prompt_tokens} tokens ({stats.reused_tokens} reused) "
        f"in {stats.prefill_seconds:.2f} s"
    )
    return line + ("; LOSSY" if stats.lossy else "")
