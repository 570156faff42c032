"""`forerun train`. PyTorch is imported only when a command runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from forerun import models
from forerun.checks import check_number
from forerun.cli import common

app = typer.Typer(
    name="train",
    help="Train a draft for a target, on the target's own answers. Needs pip install 'forerun\\[train]'.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

heads = typer.Typer(
    help="Train a small head beside a draft: when to stop drafting, or (lossy) what to keep.",
    no_args_is_help=True,
)
app.add_typer(heads, name="heads")

_DATA = "Data"
_SHAPE = "Draft"
_LEARN = "Learning"
Target = Annotated[str, typer.Argument(help="The target: a .gguf file or the name of a pulled model.")]
Data = Annotated[Path, typer.Argument(help="A folder that `collect` made.")]
Run = Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="FILE.run")]
Weights = Annotated[str, typer.Option(help="q8_0, q4_1, f16 or f32.", rich_help_panel=_SHAPE)]
Rows = Annotated[int, typer.Option(help="Rows to learn from in a batch.", rich_help_panel=_LEARN)]
HeldOut = Annotated[int, typer.Option(help="Every so many-th text is for validation.", rich_help_panel=_LEARN)]
Start = Annotated[Path | None, typer.Option(help="The folder of an earlier run to begin from.")]
StartDraft = Annotated[Path | None, typer.Option(help="An earlier run's folder, or a draft file, to begin from.")]
Seed = Annotated[int, typer.Option(help="One seed, one file (on a CPU and one number of threads).")]
F32 = Annotated[bool, typer.Option("--f32", help="Full precision instead of bf16.")]
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
    prompts: Annotated[
        Path | None, typer.Option(help='Prompts of yours to answer: {"prompt": "..."} a line.', rich_help_panel=_DATA)
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="A text file to read as it is; repeatable.", rich_help_panel=_DATA)
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Of an answer.", rich_help_panel=_DATA)] = 200,
    seed: Annotated[int, typer.Option(help="Of prompts and sampling.", rich_help_panel=_DATA)] = 0,
    taps: Annotated[str, typer.Option(help="Hidden states to keep: -1 the final one, l the input of layer l.")] = "-1",
    top_k: Annotated[int, typer.Option(help="Next tokens to keep of each law.")] = 16,
    most_tokens: Annotated[
        int, typer.Option(help="Of a prompt with its answer; longer texts are cut into such.")
    ] = 1024,
    max_gb: Annotated[float, typer.Option(help="Most disk for shards; 0 sets no limit.")] = 20.0,
    batch: Annotated[int, typer.Option(help="Answers written at a time.")] = 16,
    threads: Threads = None,
) -> None:
    """Have the target answer prompts, and keep what it shows at every token."""
    _require()
    from forerun.train.answers import answers as answers_to
    from forerun.train.collect import Budget, claim
    from forerun.train.collect import collect as collect_features
    from forerun.train.own_prompts import own_prompts as invented
    from forerun.train.prompts import compose
    from forerun.train.prompts import given as prompts_of
    from forerun.train.target import check_file
    from forerun.train.texts import Text, documentation, pieces, standard_library
    from forerun.train.texts import excerpts as cut

    tapped = _integers("taps", taps)
    common.at_least(3, **{"most-tokens": most_tokens})
    common.at_least(0, answers=answers, excerpts=excerpts, **{"own-prompts": own_prompts})
    check_number("max-gb", max_gb, low=0.0)
    given = list(prompts_of(prompts, seed)) if prompts else []
    plain = [path.read_text(encoding="utf-8", errors="replace") for path in text or []]
    check_file(Path(models.resolve(target)))
    settings = {"draft": "none", "threads": threads, "max_batch": batch, "prefix_cache_bytes": 0}
    with common.load(target, **settings, record_taps=tapped, record_top_k=top_k) as engine:
        claim(folder, engine, tapped, top_k)
        own = folder / "own-prompts.jsonl"
        asked = {
            "answers": compose(answers, seed),
            "own-answers": invented(engine, own, own_prompts, seed, batch) if own_prompts else [],
            "given-answers": given,
        }
        texts: dict[str, Iterable[Text]] = {
            name: answers_to(engine, made, folder / f"{name}.jsonl", max_tokens, batch, most_tokens)
            for name, made in asked.items()
        }
        if excerpts:
            plain += cut(standard_library(), (excerpts + 1) // 2, 2000, seed)
            plain += cut(documentation(), excerpts // 2, 2000, seed + 1)
        texts["texts"] = [text for piece in plain for text in pieces(engine.encode(piece), most_tokens)]
        budget = Budget(most_bytes=int(max_gb * 1e9), most_tokens=most_tokens)
        held = []
        for name, source in texts.items():
            held.append(collect_features(engine, source, folder, tapped, top_k, budget, name))
            if not held[-1].whole:
                common.err.print(f"stopped before {max_gb:g} GB of shards; raise --max-gb to go on")
                break
    count, tokens = sum(one.texts for one in held), sum(one.tokens for one in held)
    common.say(f"{folder}: {count:,} texts, {tokens:,} tokens, {len(list(folder.glob('*.safetensors')))} shards")


@app.command()
def draft(
    target: Target,
    data: Data,
    file: Annotated[Path, typer.Argument(help="The draft file to write, at every improvement.")],
    run: Run = None,
    family: Annotated[
        str,
        typer.Option(
            help="dgf, eagle, eagle3, medusa, hydra, hydra++, kangaroo, chimera or falcon.", rich_help_panel=_SHAPE
        ),
    ] = "eagle3",
    blocks: Annotated[int, typer.Option(help="Decoder blocks, 1 to 6.", rich_help_panel=_SHAPE)] = 1,
    stack_layers: Annotated[int, typer.Option(help="Of each stack of medusa and hydra.", rich_help_panel=_SHAPE)] = 1,
    ffn_width: Annotated[int, typer.Option(help="0 takes the target's, none in kangaroo.", rich_help_panel=_SHAPE)] = 0,
    draft_vocab: Annotated[int, typer.Option(help="Tokens that it can say.", rich_help_panel=_SHAPE)] = 8192,
    own_head: Annotated[
        bool, typer.Option("--own-head", help="Train a head instead of using the target's.", rich_help_panel=_SHAPE)
    ] = False,
    taps: Annotated[str, typer.Option(help="Hidden states that it reads.", rich_help_panel=_SHAPE)] = "-1",
    exit_layer: Annotated[
        int, typer.Option(help="The target's layers before kangaroo; collect this tap.", rich_help_panel=_SHAPE)
    ] = 0,
    span: Annotated[int, typer.Option(help="Tokens that falcon guesses in one forward.", rich_help_panel=_SHAPE)] = 2,
    weights: Weights = "q8_0",
    epochs: Annotated[int, typer.Option(help="Passes over the data.", rich_help_panel=_LEARN)] = 4,
    rows: Rows = 2048,
    rate: Annotated[float, typer.Option(help="Peak rate of the matrices (Muon).", rich_help_panel=_LEARN)] = 0.02,
    fine_rate: Annotated[float, typer.Option(help="Of all else (AdamW).", rich_help_panel=_LEARN)] = 0.002,
    floor: Annotated[float, typer.Option(help="Share of the peak rates at the end.", rich_help_panel=_LEARN)] = 0.05,
    unroll: Annotated[
        int,
        typer.Option(
            help="Steps on its own outputs, or stacks of medusa and hydra.",
            show_default="3, kangaroo 1",
            rich_help_panel=_LEARN,
        ),
    ] = 0,
    thin: Annotated[
        float, typer.Option(help="Share of the rows that go on after the first step.", rich_help_panel=_LEARN)
    ] = 0.5,
    feature_loss: Annotated[
        float, typer.Option(help="Weight of SmoothL1 on features (1 for EAGLE-1).", rich_help_panel=_LEARN)
    ] = 0.0,
    law_loss: Annotated[
        float, typer.Option(help="Weight of the cross-entropy (0.1 for EAGLE-1).", rich_help_panel=_LEARN)
    ] = 1.0,
    text_loss: Annotated[
        float, typer.Option(help="Weight of the cross-entropy to the text's tokens (Medusa).", rich_help_panel=_LEARN)
    ] = 0.0,
    noise: Annotated[
        float, typer.Option(help="Uniform noise on features (0.1 for EAGLE-1).", rich_help_panel=_LEARN)
    ] = 0.0,
    glance: Annotated[
        float, typer.Option(help="Share of wrong guesses shown to falcon at first (CSGD: 0.4).", rich_help_panel=_LEARN)
    ] = 0.0,
    held_out: HeldOut = 25,
    patience: Annotated[
        int, typer.Option(help="Validations without progress before it stops; 0 goes on.", rich_help_panel=_LEARN)
    ] = 0,
    validate_every: Annotated[int, typer.Option(help="Batches between validations.", rich_help_panel=_LEARN)] = 100,
    start: StartDraft = None,
    licence: Annotated[str, typer.Option(help="Of the file, an SPDX name, for its metadata.")] = "",
    hours: Annotated[float, typer.Option(help="Stop after so long; the same command goes on.")] = 0.0,
    seed: Seed = 0,
    f32: F32 = False,
    threads: Threads = None,
) -> None:
    """Train a draft and write its file; learning curves go to the run's folder."""
    _require()
    from forerun.train import curves, loop, runs
    from forerun.train.export import export
    from forerun.train.processes import join
    from forerun.train.trainer import Schedule
    from forerun.train.unroll import Objective

    folder = _begin(file, weights, run, threads)
    if bool(exit_layer) != (family == "kangaroo"):
        raise ValueError(f"exit-layer: expected 1 or more with kangaroo, and none with others, found {exit_layer}")
    tapped = (exit_layer,) if exit_layer else tuple(_integers("taps", taps))
    unroll = unroll or (1 if exit_layer else 3)
    shape = runs.Shape(family, blocks, ffn_width, draft_vocab, own_head, unroll, stack_layers, span, tapped)
    objective = Objective(
        unroll=unroll, law=law_loss, feature=feature_loss, thin=thin, noise=noise, text=text_loss, glance=glance
    )
    schedule = Schedule(
        epochs=epochs,
        rows=rows,
        rate=rate,
        fine_rate=fine_rate,
        floor=floor,
        validate_every=validate_every,
        weights=weights,
        patience=patience,
        seed=seed,
        bf16=not f32,
    )
    processes = join()
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
        on_best=lambda best, parts: export(best, parts, file, file.stem, weights, licence),
        processes=processes,
    )
    processes.close()
    if not processes.is_main:
        return
    log = loop.read_log(folder)
    if not log:
        common.say(f"{folder}: stopped before the first validation; the same command goes on")
        return
    try:
        curves.draw(folder, folder / "curves.png")
    except ImportError as error:
        common.err.print(
            f"no curves: {error.name} is missing (pip install 'forerun\\[plot]'; forerun train curves RUN PNG)"
        )
    best = max(log, key=lambda entry: entry["score"])
    common.say(f"{file}: {file.stat().st_size / 1e6:.1f} MB, validation tau {best['score']:.2f} with 8 nodes")


@app.command()
def student(
    target: Target,
    data: Data,
    file: Annotated[Path, typer.Argument(help="The GGUF model to write, for --draft model:FILE.")],
    run: Run = None,
    width: Annotated[int, typer.Option(help="Hidden width, a multiple of 64.", rich_help_panel=_SHAPE)] = 256,
    layers: Annotated[int, typer.Option(help="Decoder layers.", rich_help_panel=_SHAPE)] = 4,
    exits: Annotated[
        str, typer.Option(help="Layers after which it may be left (S2D), such as 2,4,6.", rich_help_panel=_SHAPE)
    ] = "",
    weights: Weights = "q8_0",
    loss: Annotated[
        str, typer.Option(help="text (pre-training), forward, reverse, jsd or tvd.", rich_help_panel=_LEARN)
    ] = "forward",
    own: Annotated[
        float, typer.Option(help="Share of batches that the draft writes itself (on-policy).", rich_help_panel=_LEARN)
    ] = 0.0,
    steps: Annotated[int, typer.Option(help="Batches.", rich_help_panel=_LEARN)] = 1000,
    rows: Rows = 2048,
    rate: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=_LEARN)] = 1e-3,
    start: Start = None,
    held_out: HeldOut = 25,
    seed: Seed = 0,
    f32: F32 = False,
    threads: Threads = None,
) -> None:
    """Distil a small stand-alone draft (DistillSpec; with --loss text first, FastDraft)."""
    _require()
    from forerun.train.data import split
    from forerun.train.distill import Distillation, distill, scorer
    from forerun.train.runs import load_sequences
    from forerun.train.students import Student, StudentConfig, begin_from, export_student
    from forerun.train.target import read_target

    folder = _begin(file, weights, run, threads)
    path = Path(models.resolve(target))
    left = tuple(_integers("exits", exits)) if exits else ()
    shape = {"heads": width // 64, "kv_heads": width // 64, "head_dim": 64, "ffn_width": 3 * width, "exits": left}
    config = StudentConfig(read_target(path).vocab, width, layers, **shape)
    made = Student(config, seed)
    if start is not None:
        begin_from(made, start)
    plan = Distillation(loss=loss, steps=steps, rows=rows, rate=rate, own=own, seed=seed, bf16=not f32)
    learn, validation = split(load_sequences(data, []), held_out)
    if own:
        with common.load(target, draft="none", threads=threads, prefix_cache_bytes=0) as engine:
            top_k = learn[0].top_tokens.shape[1]
            log = distill(made, learn, validation, plan, folder, scorer(engine, top_k), set(engine.end_tokens))
    else:
        log = distill(made, learn, validation, plan, folder)
    size = export_student(made, path, file, file.stem, weights)
    common.say(f"{file}: {size / 1e6:.1f} MB, accepts {log[-1]['sampled']:.2f} sampled, {log[-1]['greedy']:.2f} greedy")


@heads.command()
def acceptance(
    target: Target,
    data: Data,
    draft: Annotated[Path, typer.Argument(help="The draft file that the head is for; it stays as it is.")],
    file: Annotated[Path, typer.Argument(help="The draft file to write, with the head.")],
    run: Run = None,
    layers: Annotated[int, typer.Option(help="Of the head.", rich_help_panel=_SHAPE)] = 3,
    weights: Weights = "q8_0",
    depth: Annotated[int, typer.Option(help="Of the branches to learn from.", rich_help_panel=_LEARN)] = 5,
    true_share: Annotated[
        float, typer.Option(help="Share of their tokens that stay the text's.", rich_help_panel=_LEARN)
    ] = 0.15,
    reject_weight: Annotated[
        float, typer.Option(help="Weight of a rejected token; an accepted one has 1.", rich_help_panel=_LEARN)
    ] = 6.0,
    epochs: Annotated[int, typer.Option(help="Passes over the data.", rich_help_panel=_LEARN)] = 3,
    rows: Rows = 1024,
    rate: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=_LEARN)] = 1e-3,
    held_out: HeldOut = 25,
    seed: Seed = 0,
    f32: F32 = False,
    threads: Threads = None,
) -> None:
    """Add a head that predicts acceptance (SpecDec++), for --option POLICY.stop=head:0.3. The text stays the same."""
    _require()
    from forerun.train.acceptance import AcceptancePlan, train_acceptance

    folder = _begin(file, weights, run, threads)
    plan = AcceptancePlan(
        layers, depth, true_share, reject_weight, epochs=epochs, rows=rows, rate=rate, seed=seed, bf16=not f32
    )
    best = train_acceptance(Path(models.resolve(target)), data, draft, file, folder, plan, held_out, weights)
    common.say(
        f"{file}: {file.stat().st_size / 1e6:.1f} MB, ranks an accepted token above a rejected one in "
        f"{best['ranking']:.0%} of {best['tokens']:,} held-out tokens, {best['accepted']:.0%} of them accepted"
    )


@heads.command()
def judge(
    target: Target,
    answers: Annotated[Path, typer.Argument(help="JSONL of answers whose wrong parts are marked (docs/training.md).")],
    file: Annotated[Path, typer.Argument(help="The judge file to write.")],
    held_out: Annotated[int, typer.Option(help="Every so many-th answer is for validation.")] = 5,
    threads: Threads = None,
) -> None:
    """Train a judge head, for --verify judge --option judge.head=FILE. LOSSY: it changes the text."""
    _require()
    from forerun.draft_file import Target as Fits
    from forerun.train.judge import train_judge

    path = models.resolve(target)
    with common.load(target, draft="none", threads=threads, prefix_cache_bytes=0) as engine:
        kept = train_judge(engine, Fits.of(str(path)), answers, file, held_out)
    common.say(f"{file}: keeps {kept['right']:.0%} of the right and {kept['wrong']:.0%} of the wrong held-out tokens")


@app.command()
def online(
    target: Target,
    draft: Annotated[Path, typer.Argument(help="The draft file to begin with; it stays as it is.")],
    prompts: Annotated[Path, typer.Argument(help="A text file, a prompt a line.")],
    folder: Annotated[Path, typer.Argument(help="Where the newest draft goes, as draft.gguf.")],
    every: Annotated[int, typer.Option(help="Answers of an update.", rich_help_panel=_LEARN)] = 8,
    steps: Annotated[int, typer.Option(help="Of an update.", rich_help_panel=_LEARN)] = 4,
    rate: Annotated[float, typer.Option(help="Learning rate.", rich_help_panel=_LEARN)] = 1e-3,
    max_tokens: Annotated[int, typer.Option(help="Of an answer.")] = 200,
    threads: Threads = None,
) -> None:
    """Answer prompts while the draft learns from the answers (Online Speculative Decoding). The text stays the same."""
    _require()
    from forerun.checks import numbered_lines
    from forerun.train.online import Online, OnlinePlan, recording

    asked = [line for _, line in numbered_lines(prompts)]
    plan = OnlinePlan(every=every, steps=steps, rate=rate)
    path = Path(models.resolve(target))
    with (
        common.load(target, draft=f"head:{draft}", threads=threads, **recording(draft, plan)) as engine,
        Online(engine, path, draft, folder, plan) as learner,
    ):
        for at in range(0, len(asked), every):
            steps_taken = tokens = 0
            for prompt in asked[at : at + every]:
                ids = engine.encode(engine.render([{"role": "user", "content": prompt}]), add_special=False)
                answer = engine.generate(ids, max_tokens=max_tokens)
                learner.observe([*ids, *answer.tokens], len(ids), answer.features)
                steps_taken, tokens = steps_taken + answer.stats.steps, tokens + answer.stats.tokens
            tau = tokens / max(1, steps_taken)
            common.say(f"{at + len(asked[at : at + every])} answers, {learner.updates} updates, tau {tau:.2f}")
        learner.flush()
    common.say(f"{folder / 'draft.gguf'}: {learner.updates} updates")


@app.command()
def curves(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    picture: Annotated[Path, typer.Argument(help="The PNG to write.")],
) -> None:
    """Draw the learning curves of a run."""
    _require()
    from forerun.train.curves import draw

    draw(run, picture)


def _begin(file: Path, weights: str, run: Path | None, threads: int | None) -> Path:
    """The folder of a run that writes `file`."""
    import torch

    from forerun.draft_file import check_weights

    check_weights(weights)
    common.at_least(1, threads=threads)
    common.writable(FILE=file)
    if threads:
        torch.set_num_threads(threads)
    return run or file.with_suffix(".run")


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
