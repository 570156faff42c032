from __future__ import annotations

import sys
from typing import Annotated

import typer

from forerun.cli import common


def generate(
    model: common.Model,
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    chat: Annotated[bool, typer.Option("--chat", help="Wrap the prompt in the model's chat template.")] = False,
    system: Annotated[str | None, typer.Option(help="A system message; implies --chat.")] = None,
    draft: common.Draft = "auto",
    max_tokens: common.MaxTokens = 256,
    seed: common.Seed = 0,
    stop: common.Stop = None,
    temperature: common.Temperature = 0.0,
    top_k: common.TopK = 0,
    top_p: common.TopP = 1.0,
    min_p: common.MinP = 0.0,
    repetition_penalty: common.RepetitionPenalty = 1.0,
    frequency_penalty: common.FrequencyPenalty = 0.0,
    presence_penalty: common.PresencePenalty = 0.0,
    threads: common.Threads = None,
    context: common.Context = None,
    kv_type: common.KvType = "f16",
    logprobs: Annotated[int | None, typer.Option(help="With --json: alternatives to report per token.")] = None,
    stats: common.ShowStats = False,
    as_json: common.AsJson = False,
) -> None:
    """Continue a prompt, streaming the text."""
    sampling = common.sampling_of(
        temperature,
        top_k,
        top_p,
        min_p,
        repetition_penalty,
        frequency_penalty,
        presence_penalty,
    )
    text = sys.stdin.read() if prompt == "-" else prompt
    request: str | list[dict[str, str]] = text
    if chat or system is not None:
        request = [{"role": "user", "content": text}]
        if system is not None:
            request.insert(0, {"role": "system", "content": system})
    with common.load(model, draft, threads, context, kv_type) as engine:
        stream = engine.stream(
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
