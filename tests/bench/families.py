"""Trains a draft of every family on the same data, and measures each beside plain decoding.

    forerun train collect smollm2-135m DATA --answers 2000 --taps=-1,2,3,15,27
    python tests/bench/families.py smollm2-135m DATA OUT --prompts FILE

Every family learns once from each text of DATA, by the recipe of its paper as docs/training.md gives it. What is there
already is kept, so that a run that was stopped goes on. OUT/families.md has the table, OUT/runs.jsonl what it was made
of, OUT/NAME.run the settings, curves and log of each training.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forerun import bench
from forerun.bench import BenchOptions
from forerun.compare import PLAIN, Combination, Comparison

NODES = 8  # of the trees by which tau and cost are compared

_UNROLLED = "--ffn-width 1536 --own-head --unroll 3 --thin 0.4"
_STACKS = "--unroll 4 --own-head --thin 1"
HEADS = {
    "dgf": f"--family dgf {_UNROLLED}",
    "dgf, 3 blocks": f"--family dgf --blocks 3 {_UNROLLED}",
    "eagle, as EAGLE-3 learns": f"--family eagle {_UNROLLED}",
    "eagle": "--family eagle --ffn-width 1536 --own-head --unroll 1 --feature-loss 1 --law-loss 0.1 --noise 0.1",
    "eagle3": f"--family eagle3 --taps 2,15,27 {_UNROLLED}",
    "medusa": f"--family medusa {_STACKS} --law-loss 0 --text-loss 1",
    "hydra": f"--family hydra {_STACKS} --law-loss 0 --text-loss 1",
    "hydra++": f"--family hydra++ --ffn-width 1536 --stack-layers 4 {_STACKS}",
    "chimera": f"--family chimera --ffn-width 1536 {_STACKS} --law-loss 0 --text-loss 1 --feature-loss 1",
    "falcon": "--family falcon --ffn-width 1536 --own-head --unroll 4 --feature-loss 1 --law-loss 0.09 --text-loss 0.01"
    " --noise 0.1 --glance 0.4",
    "kangaroo": "--family kangaroo --exit-layer 3 --ffn-width 1536 --own-head",
}
STUDENTS = {
    "fastdraft": "--loss forward",
    "s2d": "--loss forward --exits 2,4",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompts", type=Path, required=True, help="as of `forerun compare`")
    parser.add_argument("--only", nargs="*", default=[], choices=[*HEADS, *STUDENTS], help="these families")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--student-steps", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)

    threads = ["--threads", str(chosen.threads)] if chosen.threads else []
    for name in [name for name in (*HEADS, *STUDENTS) if not chosen.only or name in chosen.only]:
        kind, recipe = ("student", STUDENTS[name]) if name in STUDENTS else ("draft", HEADS[name])
        length = ["--steps", str(chosen.student_steps)] if name in STUDENTS else ["--epochs", str(chosen.epochs)]
        train(kind, chosen.target, chosen.data, _file(chosen.out, name), [*shlex.split(recipe), *length, *threads])

    made = {name: _file(chosen.out, name) for name in (*HEADS, *STUDENTS) if _done(_file(chosen.out, name))}
    options = BenchOptions(tokens=chosen.tokens, threads=chosen.threads)
    prompts = bench.read_prompts(chosen.prompts)
    comparison = Comparison(chosen.target, prompts, options, chosen.out, paired=True, resume=True)
    combinations = {name: [_combination(name, path, budget) for budget in (NODES, None)] for name, path in made.items()}
    comparison.run([combination for both in combinations.values() for combination in both], _tell)
    rows = comparison.rows()
    plain = 1 / bench.summarise(rows[PLAIN])["overall"]["plain_tps"]
    lines = [
        f"| draft | MB | minutes | tau, {NODES} nodes | drafting, of a plain step | speed | slowest prompt |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (fixed, free) in combinations.items():
        lines.append(_line(name, made[name], rows[fixed], rows[free], plain))
    table = "\n".join(lines) + "\n"
    (chosen.out / "families.md").write_text(table, encoding="utf-8")
    print(table)


def train(kind: str, target: str, data: Path, file: Path, options: Sequence[str]) -> None:
    """By the command that anyone would use; nothing when it has been done."""
    if _done(file):
        return
    command = [sys.executable, "-m", "forerun", "train", kind, target, str(data), str(file), *options]
    command += ["--weights", "q4_1"]
    print(shlex.join(command), flush=True)
    began = time.monotonic()
    subprocess.run(command, check=True)
    _times(file).write_text(json.dumps({"seconds": time.monotonic() - began}), encoding="utf-8")


def _line(name: str, file: Path, fixed: Sequence[dict], free: Sequence[dict], plain: float) -> str:
    told = bench.summarise(free)["overall"]
    drafting = statistics.median(row["draft_seconds"] / row["steps"] for row in fixed)
    cells: list[Any] = [
        name,
        f"{file.stat().st_size / 1e6:.1f}",
        f"{json.loads(_times(file).read_text())['seconds'] / 60:.0f}",
        f"{bench.summarise(fixed)['overall']['tau']:.2f}",
        f"{100 * drafting / plain:.0f} %",
        f"{told['ratio']:.2f}x",
        f"{told['slowest_ratio']:.2f}x",
    ]
    return f"| {' | '.join(cells)} |"


def _tell(what: str, done: int, total: int) -> None:
    print(f"\r{done}/{total} {what:60.60}", end="" if done < total else "\n", file=sys.stderr, flush=True)


def _combination(name: str, file: Path, budget: int | None) -> Combination:
    return Combination(f"{'model' if name in STUDENTS else 'head'}:{file}", budget=budget)


def _file(out: Path, name: str) -> Path:
    return out / f"{name.replace(', ', '-').replace(' ', '-')}.gguf"


def _times(file: Path) -> Path:
    return file.with_suffix(".json")


def _done(file: Path) -> bool:
    return _times(file).exists()


if __name__ == "__main__":
    main()
