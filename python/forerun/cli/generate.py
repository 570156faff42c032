from __future__ import annotations

from typing import Annotated, Any

import typer

from forerun.cli import common
from forerun.types import Sampling


@common.shares(engine=common.engine_options, sampling=common.sampling_options)
def generate(
    model: common.Model,
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    engine: dict[str, Any],
    sampling: Sampling,
    chat: Annotated[bool, typer.Option("--chat", help="Wrap the prompt in the model's chat template.")] = False,
    system: Annotated[str | None, typer.Option(help="A system message; implies --chat.")] = None,
    max_tokens: common.MaxTokens = 256,
    seed: common.Seed = 0,
    stop: common.Stop = None,
    logprobs: Annotated[int | None, typer.Option(help="With --json: alternatives to report per token.")] = None,
    stats: common.ShowStats = False,
    as_json: common.AsJson = False,
) -> None:
    """Continue a prompt, streaming the text."""
    if logprobs is not None and not as_json:
        raise typer.BadParameter("--logprobs belongs to --json")
    text = common.prompt_text(prompt)
    request: str | list[dict[str, str]] = text
    if chat or system is not None:
        request = [{"role": "user", "content": text}]
        if system is not None:
            request.insert(0, {"role": "system", "content": system})
    with common.load(model, **engine) as loaded:
        stream = loaded.stream(
            request,
            max_tokens=max_tokens,
            sampling=sampling,
            stop=stop or (),
            seed=seed,
            logprobs=logprobs,
        )
        with stream:
            for piece in stream:
                if not as_json:
                    common.show(piece)
        completion = stream.completion
        assert completion is not None
        if as_json:
            common.print_json(completion.to_dict())
            return
        print(flush=True)
        if stats:
            common.err.print(common.describe(completion.stats), style="dim")
