"""What the subcommands share: option types, consoles, loading with a progress bar, printing."""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from forerun.engine import Engine
from forerun.types import Sampling, Stats

# A table is as wide as it needs where no terminal has a width.
_WIDTH = None if "COLUMNS" in os.environ or (sys.stdout and sys.stdout.isatty()) else 1000
out = Console(highlight=False, width=_WIDTH)
err = Console(stderr=True, highlight=False)

Model = Annotated[
    str,
    typer.Argument(help="A .gguf file, a Hugging Face folder, or what was pulled: NAME, hf:ORG/REPO/FILE.gguf."),
]
_ENGINE = "Engine"
Draft = Annotated[
    str,
    typer.Option(
        help="What runs ahead: none, auto, or drafters of [bold]forerun methods[/bold] joined by '+'.",
        rich_help_panel=_ENGINE,
    ),
]
Policy = Annotated[
    str, typer.Option(help="How the tree of a draft model, a head or early-exit grows.", rich_help_panel=_ENGINE)
]
Verify = Annotated[str, typer.Option(help="Which branch of a tree is kept.", rich_help_panel=_ENGINE)]
MethodOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME.KEY=VALUE", help="Sets up a method; repeatable.", rich_help_panel=_ENGINE),
]
Device = Annotated[str, typer.Option(help="cpu or cuda.", rich_help_panel=_ENGINE)]
Placement = Annotated[
    str | None,
    typer.Option(
        help="Instead of a device: auto, dovetail (the draft on a device of its own) or a plan's file.",
        rich_help_panel=_ENGINE,
    ),
]
Vram = Annotated[
    str | None,
    typer.Option(help="Most memory of a GPU to take, such as 3GiB; a plan needs it.", rich_help_panel=_ENGINE),
]
Ram = Annotated[str | None, typer.Option(help="Most memory of the host to take.", rich_help_panel=_ENGINE)]
Threads = Annotated[
    int | None,
    typer.Option(help="Worker threads.", show_default="the usable cores", rich_help_panel=_ENGINE),
]
Context = Annotated[int | None, typer.Option(help="Longest sequence in tokens.", rich_help_panel=_ENGINE)]
KvType = Annotated[
    str,
    typer.Option(help="How keys and values are kept: f16, f32 or q8_0 (half the memory).", rich_help_panel=_ENGINE),
]
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


def at_least(least: int, **values: int | None) -> None:
    """Refuses the option of a smaller value by its name."""
    for name, value in values.items():
        if value is not None and value < least:
            raise typer.BadParameter(f"--{name}: expected at least {least}, found {value}")


def writable(**paths: str | Path | None) -> None:
    """Refuses, before the work that it is for, the option, or in capitals the argument, of a file that could not be
    written; - is standard output.
    """
    for name, path in paths.items():
        if path is None or path == "-":
            continue
        shown = name if name.isupper() else f"--{name}"
        if Path(path).is_dir():
            raise typer.BadParameter(f"{shown}: {path} is a folder, expected a file")
        if not Path(path).resolve().parent.is_dir():
            raise typer.BadParameter(f"{shown}: no such folder: {Path(path).resolve().parent}")


def prompt_text(prompt: str) -> str:
    """The argument, or standard input where it is -."""
    if prompt != "-":
        return prompt
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input: not valid UTF-8 at byte {error.start}") from None


def say(line: str) -> None:
    """A result at once on a line of its own, however long, whatever characters the names in it have."""
    print(line.translate(_CONTROLS), flush=True)


def print_json(value: Any) -> None:
    """JSON as its standard has it: what is no number in a file (NaN, infinities) is null."""
    print(json.dumps(_finite(value), ensure_ascii=False, indent=1, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def method_options(pairs: Sequence[str] | None) -> dict[str, str]:
    """The values of --option as Engine takes them; ValueError for one that is not NAME.KEY=VALUE."""
    options: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        method, dot, key = name.partition(".")
        if not (method and dot and key and equals):
            raise ValueError(f"--option: expected NAME.KEY=VALUE, found {pair!r}")
        if name in options:
            raise ValueError(f"--option: {name} is given twice")
        options[name] = value
    return options


def engine_options(
    draft: Draft = "auto",
    policy: Policy = "auto",
    verify: Verify = "match",
    option: MethodOption = None,
    device: Device = "cpu",
    placement: Placement = None,
    vram: Vram = None,
    ram: Ram = None,
    threads: Threads = None,
    context: Context = None,
    kv_type: KvType = "f16",
) -> dict[str, Any]:
    """Keywords of Engine."""
    return {
        "draft": draft,
        "policy": policy,
        "verify": verify,
        "method_options": method_options(option),
        "device": device,
        "placement": placement,
        "vram_limit": vram,
        "ram_limit": ram,
        "threads": threads,
        "context": context,
        "kv_type": kv_type,
    }


def sampling_options(
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    frequency_penalty: FrequencyPenalty = 0.0,
    presence_penalty: PresencePenalty = 0.0,
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


def shares(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that several commands have, written once: `@shares(engine=engine_options)` gives the command the
    options of `engine_options` in the place of its parameter `engine`, and calls it with what that function returns.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters: list[Parameter] = []
        options: dict[str, list[str]] = {}
        for name, parameter in signature(command, eval_str=True).parameters.items():
            if name in groups:
                shared = signature(groups[name], eval_str=True).parameters
                options[name] = list(shared)
                parameters += shared.values()
            else:
                parameters.append(parameter)

        @functools.wraps(command)
        def run(**values: Any) -> None:
            for name, names in options.items():
                values[name] = groups[name](**{option: values.pop(option) for option in names})
            command(**values)

        # What typer reads. All are passed by keyword, so that one with a default may come before one without.
        run.__signature__ = Signature([p.replace(kind=Parameter.KEYWORD_ONLY) for p in parameters])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr while the block runs (on a terminal); gives what to call with the share done."""
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    with bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def load(model: str, **settings: Any) -> Engine:
    """An Engine of these settings, with a bar on stderr while it loads (on a terminal)."""
    with progress_bar("loading") as done:
        return Engine(model, **settings, progress=done)


def describe(stats: Stats) -> str:
    """The statistics of a generation on one line."""
    line = (
        f"{stats.tokens} tokens in {stats.steps} steps, {stats.tokens_per_second:.1f} tokens/s, "
        f"tau {stats.tau:.2f}, accepted {stats.accepted} of {stats.drafted} drafted; "
        f"prompt {stats.prompt_tokens} tokens ({stats.reused_tokens} reused) "
        f"in {stats.prefill_seconds:.2f} s"
    )
    if stats.lossy:
        line += "; LOSSY"
    return line + (f"; went on without its draft: {stats.draft_failure}" if stats.draft_failure else "")
