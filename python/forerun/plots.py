"""Plots of a comparison, by matplotlib (the extra `forerun[plot]`), each as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from forerun.compare import Comparison, summarise

# Eight colours that stay apart for colour-blind readers (Okabe and Ito); plain decoding is grey.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#806000", "#5B3A8C")
_GREY = "#8a8a8a"
_MARKERS = "osD^vPX*"
_Styles = Mapping[tuple[str, str, str], Mapping[str, str]]


def write(comparison: Comparison, folder: Path) -> list[str]:
    """Writes what there is to see and returns the names of the PNG files. Raises ImportError without matplotlib."""
    from matplotlib import rc_context

    entries = summarise(comparison)
    styles = _styles(entries)
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
                styles,
                "Speed over plain decoding (tokens/s of both)",
                lambda group: group["ratio"],
                _speed_text,
            ),
            "tau": _facets(chosen, styles, "Tokens per target forward (tau)", lambda group: group["tau"], _tau_text),
            "acceptance": _acceptance(entries, styles),
            "goodput": _goodput(entries, styles),
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


def _legend_below(figure: Any, entries: int) -> None:
    figure.set_figheight(3.4 + 0.2 * math.ceil(entries / 2))
    figure.legend(loc="outside lower left", ncols=2, frameon=False)


def _key(entry: dict[str, Any]) -> tuple[str, str, str]:
    """What a line or a colour stands for: a combination, whatever its budget."""
    combination = entry["combination"]
    return combination.draft, combination.policy, combination.verify


def _styles(entries: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, str]]:
    """One colour and marker per combination, the same in all plots."""
    keys = dict.fromkeys(_key(entry) for entry in entries if entry["label"] != "plain")
    styles = {
        key: {
            "color": _COLOURS[index % len(_COLOURS)],
            "marker": _MARKERS[index % len(_MARKERS)],
            "linestyle": "-" if index < len(_COLOURS) else "-.",
        }
        for index, key in enumerate(keys)
    }
    return {_key(entry): {"color": _GREY} for entry in entries if entry["label"] == "plain"} | styles


def _speed_text(group: dict[str, Any], plain: bool) -> str:
    if plain:
        return f"{group['spec_tps']:.1f}/s"
    return f"{group['ratio']:.2f}x  ({group['plain_tps']:.1f} \u2192 {group['spec_tps']:.1f}/s)"


def _tau_text(group: dict[str, Any], plain: bool) -> str:
    return f"{group['tau']:.2f}"


def _facets(
    entries: Sequence[dict[str, Any]],
    styles: _Styles,
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
        bars = axis.barh(range(len(entries)), values, color=[styles[_key(entry)]["color"] for entry in entries])
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
        axis.set_xlim(0, 1.75 * longest)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_color("#cccccc")
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def _acceptance(entries: Sequence[dict[str, Any]], styles: _Styles) -> Any:
    """Of the steps that drafted so deep, the share that was accepted so deep; of a combination's budgets, the one
    that shows most."""
    deepest: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        known = deepest.setdefault(_key(entry), entry)
        if len(entry["acceptance_by_depth"]) > len(known["acceptance_by_depth"]):
            deepest[_key(entry)] = entry
    drawn = [entry for entry in deepest.values() if entry["acceptance_by_depth"]]
    if not drawn:
        return None
    figure, axes = _figure(7.2, 3.6)
    axis = axes[0][0]
    for entry in drawn:
        rates = entry["acceptance_by_depth"]
        axis.plot(range(1, len(rates) + 1), rates, markersize=4, label=entry["label"], **styles[_key(entry)])
    depths = max(4, *(len(entry["acceptance_by_depth"]) for entry in drawn))
    axis.set(xlabel="depth in the draft tree", ylabel="accepted", ylim=(0, 1.02), xlim=(0.5, depths + 0.5))
    axis.set_xticks(range(1, depths + 1, math.ceil(depths / 16)))
    axis.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.grid(axis="y", color="#e4e4e4")
    figure.suptitle("Acceptance by depth, where at least 20 steps drafted so deep", x=0.01, ha="left", weight="bold")
    _legend_below(figure, len(drawn))
    return figure


def _goodput(entries: Sequence[dict[str, Any]], styles: _Styles) -> Any:
    """Speed at fixed budgets, and what the controller reaches by choosing (dashed)."""
    fixed: dict[Any, list[tuple[int, float]]] = {}
    labels: dict[Any, str] = {}
    figure, axes = _figure(7.2, 3.6)
    axis = axes[0][0]
    for entry in entries:
        budget, ratio = entry["combination"].budget, entry["groups"]["overall"]["ratio"]
        if budget is not None:
            fixed.setdefault(_key(entry), []).append((budget, ratio))
        elif entry["label"] != "plain":
            labels[_key(entry)] = entry["label"]
            axis.axhline(ratio, color=styles[_key(entry)]["color"], linestyle="--", linewidth=1)
    if not fixed:
        return None
    for key, points in fixed.items():
        budgets, ratios = zip(*sorted(points), strict=True)
        axis.plot(budgets, ratios, markersize=5, label=labels.get(key, " / ".join(key)), **styles[key])
    axis.axhline(1.0, color=_GREY, linewidth=1, label="plain")
    axis.plot([], [], color="black", linestyle="--", linewidth=1, label="controller's choice")
    axis.set(xlabel="draft tokens in every step (budget)", ylabel="speed over plain decoding", ylim=(0, None))
    axis.yaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}x")
    axis.set_xticks(sorted({budget for points in fixed.values() for budget, _ in points}))
    axis.grid(axis="y", color="#e4e4e4")
    figure.suptitle("Goodput against budget, geometric mean over all prompts", x=0.01, ha="left", weight="bold")
    _legend_below(figure, len(fixed) + 2)
    return figure
