"""One prompt, answered by plain decoding and with speculation: the same text, at two speeds.

Usage: python examples/demo.py [MODEL] [PROMPT]
"""

import sys

from rich.console import Console
from rich.table import Table

from forerun import Completion, Engine

MODEL = "smollm2-135m"
PROMPT = (
    "Rewrite this text with every 'sea' replaced by 'ocean': The sea is wide and the sea is deep. "
    "Sailors love the sea, and children play by the sea. In winter the sea is grey, in summer it is blue."
)
TOKENS = 128

console = Console(highlight=False)


def answer(engine: Engine, prompt: str, title: str) -> Completion:
    """Streams the answer and returns it."""
    console.rule(title)
    messages = [{"role": "user", "content": prompt}]
    with engine.stream(messages, max_tokens=TOKENS) as stream:
        for piece in stream:
            console.print(piece, end="", markup=False, soft_wrap=True)
    console.print()
    assert stream.completion is not None
    return stream.completion


def main(model: str = MODEL, prompt: str = PROMPT) -> int:
    console.print(f"[bold]{model}[/]: {prompt}\n")
    completions = []
    for draft, title in (("none", "plain decoding"), ("auto", "with speculation")):
        with Engine(model, draft=draft) as engine:
            engine.generate("warm up", max_tokens=8)
            completions.append(answer(engine, prompt, title))
    plain, speculative = (completion.stats for completion in completions)
    same = completions[0].tokens == completions[1].tokens

    table = Table("", "plain", "speculative")
    table.add_row("tokens/s", f"{plain.tokens_per_second:.1f}", f"{speculative.tokens_per_second:.1f}")
    table.add_row("target forwards", str(plain.steps), str(speculative.steps))
    table.add_row("tokens per forward (tau)", f"{plain.tau:.2f}", f"{speculative.tau:.2f}")
    depths = " ".join(f"{rate:.2f}" for rate in speculative.acceptance_by_depth[:6])
    table.add_row("acceptance at depth 1, 2, ...", "", depths or "nothing drafted")
    table.add_row("same text", "", "yes" if same else "NO")
    console.print()
    console.print(table)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
