"""The figure of docs/dovetail.md, by the planner over an imagined machine: python examples/dovetail_figure.py OUT.png

A 7B target in 4 bits on a CPU of 16 cores (60 GB/s), a 0.5B draft, and a GPU (448 GB/s, 11 TFLOP/s) on a bus. Times
are the roofline of these figures; the CPU's rows cost what its arithmetic adds beyond reading the weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from forerun.placement import Plan, plan_profile

GB = 10**9
ROWS = (1, 2, 4, 8, 16, 32, 64)
TARGET = {
    "layers": 32,
    "width": 4096,
    "vocab": 32000,
    "layer_bytes": 113_000_000,
    "layer_parameters": 202_375_168,
    "head_bytes": 107_000_000,
    "head_parameters": 131_072_000,
    "kv_bytes": 4096,
    "scratch_bytes": 60_000_000,
}
DRAFT = {
    "layers": 24,
    "width": 896,
    "vocab": 32000,
    "layer_bytes": 8_400_000,
    "layer_parameters": 14_900_000,
    "head_bytes": 24_000_000,
    "head_parameters": 28_700_000,
    "kv_bytes": 512,
    "scratch_bytes": 40_000_000,
}


def table(size: dict[str, int], part: str, *, gbs: float, gflops: float, launches: int, launch_us: float) -> list:
    """Milliseconds by rows: whatever is longer, reading the weights or computing, and the launches."""
    read = size[f"{part}_bytes"] / gbs / 1e6
    return [
        [rows, max(read, 2 * rows * size[f"{part}_parameters"] / gflops / 1e6) + launches * launch_us / 1000]
        for rows in ROWS
    ]


def device(name: str, memory: int, link_us: float, link_gbs: float, **speed: float) -> dict[str, Any]:
    layer = table(DRAFT, "layer", launches=13, **speed)
    head = table(DRAFT, "head", launches=3, **speed)
    return {
        "device": name,
        "memory_bytes": memory,
        "layer_ms": table(TARGET, "layer", launches=13, **speed),
        "head_ms": table(TARGET, "head", launches=3, **speed),
        "draft_ms": [[[a[0], DRAFT["layers"] * a[1] + b[1]] for a, b in zip(layer, head, strict=True)]],
        "link_us": link_us,
        "link_gbs": link_gbs,
        "beside": {},
    }


def machine(link_us: float = 10.0, link_gbs: float = 12.0) -> dict[str, Any]:
    cpu = device("cpu", 64 * GB, 0.0, 1e6, gbs=60, gflops=900, launch_us=2)
    gpu = device("cuda:0", 8 * GB, link_us, link_gbs, gbs=448, gflops=11000, launch_us=5)
    return {
        "target": TARGET,
        "drafts": [{"name": "model:0.5B", "size": DRAFT, "acceptance": [0.75, 0.4]}],
        "devices": [cpu, gpu],
    }


def speed(plans: tuple[Plan, ...], wanted: str) -> float | None:
    """Tokens a second of the best plan of a kind."""
    kinds = {
        "CPU, plain": lambda p: p.drafter == "none" and set(p.memory) == {"cpu"},
        "CPU, with draft": lambda p: p.drafter != "none" and set(p.memory) == {"cpu"},
        "dovetail, all layers on the CPU": lambda p: (
            p.drafter != "none" and p.draft == "cuda:0" and set(p.layers.values()) | {p.head} == {"cpu"}
        ),
        "best placement": lambda p: True,
    }
    return max((p.tokens_per_second for p in plans if kinds[wanted](p)), default=None)


def draw(out: Path) -> None:
    from matplotlib import pyplot as plt

    colours = {
        "CPU, plain": "#8a8a8a",
        "CPU, with draft": "#E69F00",
        "dovetail, all layers on the CPU": "#009E73",
        "best placement": "#0072B2",
    }
    figure, (memory, nodes, link) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")

    sizes = [0.05 * step for step in range(1, 121)]
    by_memory = [plan_profile(machine(), vram_limit=int(size * GB)) for size in sizes]
    for kind, colour in colours.items():
        memory.plot(sizes, [speed(plans, kind) for plans in by_memory], color=colour, label=kind)
    memory.set_xlabel("video memory that may be used, GB")
    memory.set_ylabel("tokens/s, predicted")

    counts = list(range(1, 65))
    for kind in ("CPU, with draft", "dovetail, all layers on the CPU"):
        for overlap in (True, False):
            found = [plan_profile(machine(), vram_limit=GB, nodes=count, overlap=overlap) for count in counts]
            if kind == "CPU, with draft" and overlap:
                continue  # one device: nothing to overlap
            style = "-" if overlap or kind == "CPU, with draft" else ":"
            label = None if overlap or kind == "CPU, with draft" else "without overlap"
            nodes.plot(counts, [speed(p, kind) for p in found], style, color=colours[kind], label=label)
    nodes.set_xlabel("draft tokens a step (1 GB)")
    nodes.legend(frameon=False, fontsize=8)

    latencies = [10**exponent for exponent in (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)]
    for bandwidth, style in ((12.0, "-"), (1.0, ":")):
        found = [plan_profile(machine(us, bandwidth), vram_limit=3 * GB) for us in latencies]
        for kind in ("dovetail, all layers on the CPU", "best placement"):
            values = [speed(plans, kind) for plans in found]
            label = f"link of {bandwidth:g} GB/s" if kind == "best placement" else None
            link.plot(latencies, values, style, color=colours[kind], label=label)
    link.set_xscale("log")
    link.set_xlabel("latency of a copy, us (3 GB)")
    link.legend(frameon=False, fontsize=8)
    for axes in (memory, nodes, link):
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*memory.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "dovetail.png"))
