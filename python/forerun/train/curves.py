"""Learning curves of a run as a picture."""

from __future__ import annotations

from pathlib import Path

from forerun.train.loop import read_log


def draw(folder: Path, picture: Path) -> None:
    """Cross-entropy by unrolled step on the left, acceptance by depth and tokens per step on the right.

    Raises ValueError when no validation has been logged yet.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    log = read_log(folder)
    if not log:
        raise ValueError(f"{folder}: no validation has been logged yet")
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
