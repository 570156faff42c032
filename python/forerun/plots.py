"""Plots of a comparison, by matplotlib (the extra `forerun[plot]`), each as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from forerun.compare import Comparison, summarise

# Eight colours that stay apart for colour-blind readers (Okabe and Ito); plain decoding is grey.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#806000", "#5B3A8C")
_GREY = "#8a8a8a"
_MARKERS = "osD^vPX*"


def write(comparison: Comparison, folder: Path) -> list[str]:
    """Writes what there is to see and returns the names of the PNG files. Raises ImportError without matplotlib."""
    from matplotlib import rc_context

    entries = summarise(comparison)
    chosen = [entry for entry in entries if entry["combination"].budget is None]
    style = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "svg.hashsalt": "forerun",
        "figure.dpi": 120,
    }
    with rc_context(style):
        figures = {
            "speed": _facets(
                chosen,
                "Tokens per second while decoding (over plain decoding)",
                lambda group: group["spec_tps"],
                _speed_text,
            ),
            "tau": _facets(chosen, "Tokens per target forward (tau)", lambda group: group["tau"], _tau_text),
            "acceptance": _acceptance(entries if len(chosen) < 2 else chosen),
            "goodput": _goodput(entries),
        }
        written = []
        for name, figure in figures.items():
            if figure is None:
                continue
            for kind in ("png", "svg"):
                figure.savefig(
                    folder / f"{name}.{kind}", bbox_inches="tight", metadata={} if kind == "png" else {"Date": None}
                )
            written.append(f"{name}.png")
    return written


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _colour(index: int, label: str) -> str:
    return _GREY if label == "plain" else _COLOURS[(index - 1) % len(_COLOURS)]


def _speed_text(group: dict[str, Any], plain: bool) -> str:
    return f"{group['spec_tps']:.1f}" if plain else f"{group['spec_tps']:.1f}  ({group['ratio']:.2f}x)"


def _tau_text(group: dict[str, Any], plain: bool) -> str:
    return f"{group['tau']:.2f}"


def _facets(
    entries: Sequence[dict[str, Any]],
    title: str,
    value: Callable[[dict[str, Any]], float],
    text: Callable[[dict[str, Any], bool], str],
) -> Any:
    """A panel per prompt group, a bar per combination."""
    groups = list(dict.fromkeys(name for entry in entries for name in entry["groups"] if name != "overall"))
    names = ["overall", *(groups if len(groups) > 1 else [])]
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure, axes = _figure(2.0 + 2.7 * columns, 0.3 + rows * (0.55 + 0.27 * len(entries)), rows, columns)
    labels = [entry["label"] for entry in entries]
    longest = max((value(group) for entry in entries for group in entry["groups"].values()), default=0.0) or 1.0
    for place, axis in enumerate(axes.flat):
        if place >= len(names):
            axis.set_visible(False)
            continue
        name = names[place]
        found = [entry["groups"].get(name) for entry in entries]
        values = [value(group) if group else 0.0 for group in found]
        bars = axis.barh(range(len(entries)), values, color=[_colour(i, label) for i, label in enumerate(labels)])
        for index, (bar, group) in enumerate(zip(bars, found, strict=True)):
            if group:
                axis.annotate(
                    text(group, labels[index] == "plain"),
                    (bar.get_width(), index),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
        prompts = max(group["prompts"] for group in found if group)
        axis.set_title("all prompts" if name == "overall" else f"{name} ({prompts})", loc="left")
        axis.set_yticks(range(len(entries)), labels if place % columns == 0 else [""] * len(entries))
        axis.invert_yaxis()
        axis.set_xlim(0, 1.55 * longest)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_color("#cccccc")
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def _acceptance(entries: Sequence[dict[str, Any]]) -> Any:
    """Of the steps that drafted so deep, the share that was accepted so deep."""
    drawn = [entry for entry in entries if entry["acceptance_by_depth"]]
    if not drawn:
        return None
    figure, axes = _figure(7.2, 3.6)
    axis = axes[0][0]
    for index, entry in enumerate(drawn, start=1):
        rates = entry["acceptance_by_depth"]
        axis.plot(
            range(1, len(rates) + 1),
            rates,
            color=_COLOURS[(index - 1) % len(_COLOURS)],
            marker=_MARKERS[(index - 1) % len(_MARKERS)],
            markersize=4,
            linestyle="-" if index <= len(_COLOURS) else "--",
            label=entry["label"],
        )
    axis.set(xlabel="depth in the draft tree", ylabel="accepted", ylim=(0, 1.02), xlim=(0.5, None))
    axis.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(axis="y", color="#e4e4e4")
    axis.set_title("Acceptance by depth, where at least 20 steps drafted so deep", loc="left")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _goodput(entries: Sequence[dict[str, Any]]) -> Any:
    """Speed at fixed budgets, and what the controller reaches by choosing (dashed)."""
    curves: dict[Any, list[tuple[int, float]]] = {}
    chosen: dict[Any, float] = {}
    labels: dict[Any, str] = {}
    for entry in entries:
        combination = entry["combination"]
        key = (combination.draft, combination.policy, combination.verify)
        ratio = entry["groups"]["overall"]["ratio"]
        if combination.budget is None:
            chosen[key], labels[key] = ratio, entry["label"]
        else:
            curves.setdefault(key, []).append((combination.budget, ratio))
    if not curves:
        return None
    figure, axes = _figure(7.2, 3.6)
    axis = axes[0][0]
    for index, (key, points) in enumerate(curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        budgets, ratios = zip(*sorted(points), strict=True)
        label = labels.get(key, " / ".join(key))
        axis.plot(budgets, ratios, color=colour, marker=_MARKERS[index % len(_MARKERS)], markersize=5, label=label)
        if key in chosen:
            axis.axhline(chosen[key], color=colour, linestyle="--", linewidth=1)
    axis.axhline(1.0, color=_GREY, linewidth=1, label="plain")
    axis.plot([], [], color="black", linestyle="--", linewidth=1, label="controller's choice")
    axis.set(xlabel="draft tokens in every step (budget)", ylabel="speed over plain decoding", ylim=(0, None))
    axis.yaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}x")
    axis.set_xticks(sorted({budget for points in curves.values() for budget, _ in points}))
    axis.grid(axis="y", color="#e4e4e4")
    axis.set_title("Goodput against budget, geometric mean over all prompts", loc="left")
    figure.legend(loc="outside right upper", frameon=False)
    return figure
