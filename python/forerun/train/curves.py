"""Learning curves of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The validations of a run, oldest first. Raises ValueError when there is none."""
    path = folder / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if not lines:
        raise ValueError(f"{folder}: no validation has been logged yet")
    return [json.loads(line) for line in lines]


def draw(folder: Path, picture: Path) -> None:
    """Cross-entropy by unrolled step on the left, acceptance by depth and tokens per step on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    log = read_log(folder)
    at = [entry["step"] for entry in log]
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for step in range(len(log[0]["train"])):
        left.plot(at, [entry["train"][step] for entry in log], label=f"step {step + 1}")
    left.set(title="training cross-entropy by unrolled step", xlabel="batches", ylabel="nats")
    for depth in range(len(log[0]["acceptance"])):
        middle.plot(at, [entry["acceptance"][depth] for entry in log], label=f"depth {depth + 1}")
    middle.set(title="validation acceptance by depth", xlabel="batches", ylabel="share accepted")
    right.plot(at, [entry["chain_tau"] for entry in log], label="chain")
    for nodes in log[0]["tree_tau"]:
        right.plot(at, [entry["tree_tau"][nodes] for entry in log], label=f"tree of {nodes} nodes")
    right.set(title="validation tau", xlabel="batches", ylabel="tokens per step")
    for axes in (left, middle, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
