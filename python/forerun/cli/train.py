"""`forerun train`. PyTorch is imported only when a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from forerun import models
from forerun.cli import common

app = typer.Typer(
    name="train",
    help="Train a draft for a target, on the target's own answers. Needs pip install 'forerun\\[train]'.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_DATA = "Data"
_SHAPE = "Draft"
_LEARN = "Learning"
Target = Annotated[str, typer.Argument(help="The target: a .gguf file or the name of a pulled model.")]
Threads = Annotated[int | None, typer.Option(help="Threads.", show_default="the usable cores")]


@app.callback()
def _group() -> None:
    pass


@app.command()
def prompts(
    count: Annotated[int, typer.Argument(help="How many.")] = 10,
    seed: Annotated[int, typer.Option(help="One seed, one list.")] = 0,
) -> None:
    """Print composed prompts, one JSON object a line."""
    from forerun.train.prompts import compose

    for prompt in compose(count, seed):
        print(json.dumps(prompt.__dict__, ensure_ascii=False))


@app.command()
def collect(
    target: Target,
    folder: Annotated[Path, typer.Argument(help="Where answers and shards go; a run that was stopped goes on.")],
    answers: Annotated[int, typer.Option(help="Composed prompts to answer.", rich_help_panel=_DATA)] = 4000,
    own_prompts: Annotated[
        int, typer.Option(help="Prompts that the target makes up itself, as well (Magpie).", rich_help_panel=_DATA)
    ] = 0,
    excerpts: Annotated[
        int, typer.Option(help="Excerpts of the standard library and of Debian's documents.", rich_help_panel=_DATA)
    ] = 0,
    text: Annotated[
        list[Path] | None, typer.Option(help="A text file to read as it is; repeatable.", rich_help_panel=_DATA)
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Of an answer.", rich_help_panel=_DATA)] = 200,
    seed: Annotated[int, typer.Option(help="Of prompts and sampling.", rich_help_panel=_DATA)] = 0,
    taps: Annotated[str, typer.Option(help="Hidden states to keep: -1 the final one, l the input of layer l.")] = "-1",
    top_k: Annotated[int, typer.Option(help="Next tokens to keep of each law.")] = 16,
    max_gb: Annotated[float, typer.Option(help="Most disk for shards; 0 sets no limit.")] = 20.0,
    batch: Annotated[int, typer.Option(help="Answers written at a time.")] = 16,
    threads: Threads = None,
) -> None:
    """Have the target answer prompts, and keep what it shows at every token."""
    _require()
    from forerun.train.answers import read_answers, write_answers
    from forerun.train.collect import Budget
    from forerun.train.collect import collect as collect_features
    from forerun.train.own_prompts import own_prompts as invented
    from forerun.train.prompts import compose
    from forerun.train.texts import documentation, standard_library
    from forerun.train.texts import excerpts as cut

    tapped = _integers("taps", taps)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"draft": "none", "threads": threads, "max_batch": batch, "prefix_cache_bytes": 0}
    with common.load(target, **settings) as engine:
        if answers:
            write_answers(engine, compose(answers, seed), folder / "answers.jsonl", max_tokens, batch)
        if own_prompts:
            made = invented(engine, folder / "own-prompts.jsonl", own_prompts, seed, batch)
            write_answers(engine, made, folder / "own-answers.jsonl", max_tokens, batch)
        held = [*read_answers(folder / "answers.jsonl"), *read_answers(folder / "own-answers.jsonl")]
        texts = [(answer.tokens, answer.prompt_length) for answer in held]
        plain = [path.read_text(encoding="utf-8", errors="replace") for path in text or []]
        if excerpts:
            plain += cut(standard_library(), (excerpts + 1) // 2, 2000, seed)
            plain += cut(documentation(), excerpts // 2, 2000, seed + 1)
        texts += [(engine.encode(piece), 1) for piece in plain]
        shards = collect_features(engine, texts, folder, tapped, top_k, Budget(most_bytes=int(max_gb * 1e9)))
    common.out.print(f"{folder}: {len(texts):,} texts, {sum(len(ids) for ids, _ in texts):,} tokens, {shards} shards")


@app.command()
def draft(
    target: Target,
    data: Annotated[Path, typer.Argument(help="A folder that `collect` made.")],
    file: Annotated[Path, typer.Argument(help="The draft file to write, at every improvement.")],
    run: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="FILE.run")] = None,
    family: Annotated[str, typer.Option(help="dgf, eagle or eagle3.", rich_help_panel=_SHAPE)] = "eagle3",
    blocks: Annotated[int, typer.Option(help="Decoder blocks, 1 to 6.", rich_help_panel=_SHAPE)] = 1,
    ffn_width: Annotated[int, typer.Option(help="0 takes the target's.", rich_help_panel=_SHAPE)] = 0,
    draft_vocab: Annotated[int, typer.Option(help="Tokens that it can say.", rich_help_panel=_SHAPE)] = 8192,
    own_head: Annotated[
        bool, typer.Option("--own-head", help="Train a head instead of using the target's.", rich_help_panel=_SHAPE)
    ] = False,
    taps: Annotated[str, typer.Option(help="Hidden states that it reads.", rich_help_panel=_SHAPE)] = "-1",
    weights: Annotated[str, typer.Option(help="q8_0 or f16.", rich_help_panel=_SHAPE)] = "q8_0",
    epochs: Annotated[int, typer.Option(help="Passes over the data.", rich_help_panel=_LEARN)] = 4,
    rows: Annotated[int, typer.Option(help="Rows to learn from in a batch.", rich_help_panel=_LEARN)] = 2048,
    rate: Annotated[float, typer.Option(help="Peak rate of the matrices (Muon).", rich_help_panel=_LEARN)] = 0.02,
    fine_rate: Annotated[float, typer.Option(help="Of all else (AdamW).", rich_help_panel=_LEARN)] = 0.002,
    floor: Annotated[float, typer.Option(help="Share of the peak rates at the end.", rich_help_panel=_LEARN)] = 0.05,
    unroll: Annotated[int, typer.Option(help="Steps on its own outputs.", rich_help_panel=_LEARN)] = 3,
    thin: Annotated[
        float, typer.Option(help="Share of the rows that go on after the first step.", rich_help_panel=_LEARN)
    ] = 0.5,
    feature_loss: Annotated[
        float, typer.Option(help="Weight of SmoothL1 on features (1 for EAGLE-1).", rich_help_panel=_LEARN)
    ] = 0.0,
    law_loss: Annotated[
        float, typer.Option(help="Weight of the cross-entropy (0.1 for EAGLE-1).", rich_help_panel=_LEARN)
    ] = 1.0,
    noise: Annotated[
        float, typer.Option(help="Uniform noise on features (0.1 for EAGLE-1).", rich_help_panel=_LEARN)
    ] = 0.0,
    held_out: Annotated[
        int, typer.Option(help="Every so many-th text is for validation.", rich_help_panel=_LEARN)
    ] = 25,
    patience: Annotated[
        int, typer.Option(help="Validations without progress before it stops; 0 goes on.", rich_help_panel=_LEARN)
    ] = 0,
    validate_every: Annotated[int, typer.Option(help="Batches between validations.", rich_help_panel=_LEARN)] = 100,
    start: Annotated[Path | None, typer.Option(help="The folder of an earlier run to begin from.")] = None,
    hours: Annotated[float, typer.Option(help="Stop after so long; the same command goes on.")] = 0.0,
    seed: Annotated[int, typer.Option(help="One seed, one file (on a CPU and one number of threads).")] = 0,
    f32: Annotated[bool, typer.Option("--f32", help="Full precision instead of bf16.")] = False,
    threads: Threads = None,
) -> None:
    """Train a draft and write its file; learning curves go to the run's folder."""
    _require()
    import torch

    from forerun.train import curves, runs
    from forerun.train.export import export
    from forerun.train.trainer import Schedule
    from forerun.train.unroll import Objective

    if threads:
        torch.set_num_threads(threads)
    folder = run or file.with_suffix(".run")
    shape = runs.Shape(family, blocks, ffn_width, draft_vocab, own_head, tuple(_integers("taps", taps)))
    objective = Objective(unroll=unroll, law=law_loss, feature=feature_loss, thin=thin, noise=noise)
    schedule = Schedule(
        epochs=epochs,
        rows=rows,
        rate=rate,
        fine_rate=fine_rate,
        floor=floor,
        validate_every=validate_every,
        patience=patience,
        seed=seed,
        bf16=not f32,
    )
    runs.train_draft(
        Path(models.resolve(target)),
        data,
        folder,
        shape,
        objective,
        schedule,
        held_out=held_out,
        hours=hours,
        start=start,
        on_best=lambda best, parts: export(best, parts, file, file.stem, weights),
    )
    curves.draw(folder, folder / "curves.png")
    best = max(curves.read_log(folder), key=lambda entry: entry["score"])
    common.out.print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, validation tau {best['score']:.2f} with 8 nodes")


@app.command()
def student(
    target: Target,
    data: Annotated[Path, typer.Argument(help="A folder that `collect` made.")],
    file: Annotated[Path, typer.Argument(help="The GGUF model to write, for --draft model:FILE.")],
    run: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="FILE.run")] = None,
    width: Annotated[int, typer.Option(help="Hidden width, a multiple of 64.", rich_help_panel=_SHAPE)] = 256,
    layers: Annotated[int, typer.Option(help="Decoder layers.", rich_help_panel=_SHAPE)] = 4,
    weights: Annotated[str, typer.Option(help="q8_0 or f16.", rich_help_panel=_SHAPE)] = "q8_0",
    loss: Annotated[
        str, typer.Option(help="text (pre-training), forward, reverse, jsd or tvd.", rich_help_panel=_LEARN)
    ] = "forward",
    own: Annotated[
        float, typer.Option(help="Share of batches that the draft writes itself (on-policy).", rich_help_panel=_LEARN)
    ] = 0.0,
    steps: Annotated[int, typer.Option(help="Batches.", rich_help_panel=_LEARN)] = 1000,
    rows: Annotated[int, typer.Option(help="Tokens to learn from in a batch.", rich_help_panel=_LEARN)] = 2048,
    rate: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=_LEARN)] = 1e-3,
    start: Annotated[Path | None, typer.Option(help="The folder of an earlier run to begin from.")] = None,
    held_out: Annotated[int, typer.Option(help="Every so many-th text is for validation.")] = 25,
    seed: Annotated[int, typer.Option(help="One seed, one file.")] = 0,
    f32: Annotated[bool, typer.Option("--f32", help="Full precision instead of bf16.")] = False,
    threads: Threads = None,
) -> None:
    """Distil a small stand-alone draft (DistillSpec; with --loss text first, FastDraft)."""
    _require()
    import torch

    from forerun.train.data import split
    from forerun.train.distill import Distillation, distill, scorer
    from forerun.train.runs import load_sequences
    from forerun.train.students import Student, StudentConfig, export_student
    from forerun.train.target import read_target

    if threads:
        torch.set_num_threads(threads)
    path = Path(models.resolve(target))
    folder = run or file.with_suffix(".run")
    config = StudentConfig(read_target(path).vocab, width, layers, width // 64, width // 64, 64, 3 * width)
    made = Student(config, seed)
    if start is not None:
        made.load_state_dict(torch.load(start / "state.pt", weights_only=True)["student"])
    plan = Distillation(loss=loss, steps=steps, rows=rows, rate=rate, own=own, seed=seed, bf16=not f32)
    learn, validation = split(load_sequences(data, []), held_out)
    if own:
        with common.load(target, draft="none", threads=threads, prefix_cache_bytes=0) as engine:
            top_k = learn[0].top_tokens.shape[1]
            log = distill(made, learn, validation, plan, folder, scorer(engine, top_k), set(engine.end_tokens))
    else:
        log = distill(made, learn, validation, plan, folder)
    size = export_student(made, path, file, file.stem, weights)
    common.out.print(
        f"{file}: {size / 1e6:.1f} MB, accepts {log[-1]['sampled']:.2f} sampled, {log[-1]['greedy']:.2f} greedy"
    )


@app.command()
def curves(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    picture: Annotated[Path, typer.Argument(help="The PNG to write.")],
) -> None:
    """Draw the learning curves of a run."""
    _require()
    from forerun.train.curves import draw

    draw(run, picture)


def _require() -> None:
    try:
        import gguf
        import safetensors
        import torch
    except ImportError as error:
        raise ValueError(f"training needs {error.name}: pip install 'forerun[train]'") from error
    del gguf, safetensors, torch


def _integers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{name}: expected integers separated by commas, found {text!r}") from error
