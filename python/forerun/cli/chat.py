from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from forerun.cli import common
from forerun.engine import Engine
from forerun.types import Completion, Sampling

HELP = "/reset forgets the conversation, /exit leaves; Ctrl-C stops an answer."


@common.shares(engine=common.engine_options, sampling=common.sampling_options)
def chat(
    model: common.Model,
    engine: dict[str, Any],
    sampling: Sampling,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    max_tokens: common.MaxTokens = 1024,
    seed: common.Seed = 0,
    stats: common.ShowStats = False,
) -> None:
    """Talk with a model. /reset forgets, /exit leaves, Ctrl-C stops an answer."""
    with contextlib.suppress(ImportError):  # line editing and history where the platform has it
        import readline  # noqa: F401
    with common.load(model, **engine) as loaded:
        if not loaded.chat_template:
            raise ValueError(f"{model} has no chat template; use: forerun generate")
        conversation = Conversation(loaded, system, sampling, max_tokens, seed)
        if sys.stdin.isatty():
            common.err.print(HELP, style="dim")
        while (line := read_line()) is not None and line != "/exit":
            if line == "/reset":
                conversation.reset()
            elif line.startswith("/"):
                common.err.print(f"unknown command {line}: {HELP}", style="yellow", markup=False)
            elif line:
                completion = conversation.answer(line)
                if stats and completion is not None:
                    common.err.print(common.describe(completion.stats), style="dim")


class Conversation:
    """The messages so far. A refused or failed question leaves no trace in them."""

    def __init__(self, engine: Engine, system: str | None, sampling: Sampling, max_tokens: int, seed: int) -> None:
        self.engine = engine
        self.start = [] if system is None else [{"role": "system", "content": system}]
        self.settings = {"sampling": sampling, "max_tokens": max_tokens, "seed": seed}
        self.reset()

    def reset(self) -> None:
        self.messages = list(self.start)

    def answer(self, question: str) -> Completion | None:
        """Streams the answer to stdout; Ctrl-C cuts it short and keeps what was said."""
        asked = [*self.messages, {"role": "user", "content": question}]
        said: list[str] = []
        try:
            stream = self.engine.stream(asked, **self.settings)
            with contextlib.suppress(KeyboardInterrupt), stream:
                for piece in stream:
                    said.append(piece)
                    common.show(piece)
        except (ValueError, RuntimeError) as error:
            common.fail(error, 1)
            return None
        print(flush=True)
        completion = stream.completion
        self.messages = [*asked, {"role": "assistant", "content": "".join(said)}]
        if completion is not None and completion.finish_reason == "context":
            common.err.print("the context is full: /reset starts anew", style="yellow")
        return completion


def read_line() -> str | None:
    """The next line, None at the end of input. Ctrl-C at the prompt clears the line."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            print(f"\n{HELP}", file=sys.stderr)
