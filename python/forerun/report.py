"""A comparison as tables: rows of text, for a terminal or for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forerun.compare import Comparison, summarise


@dataclass(frozen=True)
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", _line(self.columns)]
        lines.append(_line(["---", *["---:"] * (len(self.columns) - 1)]))
        return "\n".join([*lines, *map(_line, self.rows)]) + "\n"


def tables(comparison: Comparison) -> list[Table]:
    """Over all prompts; by prompt group; what was left out, if anything was."""
    entries = summarise(comparison)
    found = [_overall(entries, len(comparison.prompts))]
    groups = list(dict.fromkeys(name for entry in entries for name in entry["groups"] if name != "overall"))
    if len(groups) > 1:
        found.append(_by_group(entries, groups))
    if comparison.skipped:
        rows = [[combination.label, reason] for combination, reason in comparison.skipped.items()]
        found.append(Table("Left out", ["combination", "reason"], rows))
    return found


def describe(comparison: Comparison) -> str:
    """One line: what was measured, and where."""
    header = comparison.header
    machine, settings = header["machine"], header["settings"]
    parts = [
        Path(header["model"]).name,
        f"{settings['tokens']} tokens a prompt",
        f"temperature {settings['sampling']['temperature']:g}",
        f"{machine['cpu']}, {machine['threads']} threads, {machine['isa']} kernels",
        f"forerun {header['forerun']}" + (f" ({header['commit']})" if header["commit"] else ""),
    ]
    return "; ".join(parts)


def markdown(comparison: Comparison) -> str:
    return "\n".join([f"## {describe(comparison)}", "", *(table.markdown() for table in tables(comparison))])


def _overall(entries: Sequence[dict[str, Any]], prompts: int) -> Table:
    columns = ["combination", "prompts", "tokens/s", "ratio", "slowest", "tau", "same text"]
    rows = []
    for entry in entries:
        total = entry["groups"]["overall"]
        count = total["prompts"]
        plain = entry["combination"].draft == "none"
        rows.append(
            [
                entry["label"],
                str(count) if count == prompts else f"{count} of {prompts}",
                f"{total['spec_tps']:.1f}",
                f"{total['ratio']:.2f}x",
                "" if plain else f"{total['slowest_ratio']:.2f}x {entry['slowest_prompt']}",
                f"{total['tau']:.2f}",
                _same(entry, count),
            ]
        )
    return Table("All prompts: geometric means over the prompts, against plain decoding", columns, rows)


def _same(entry: dict[str, Any], count: int) -> str:
    if entry["broken"]:
        return f"NO, {len(entry['broken'])} differ"
    return "yes" if entry["identical"] == count else f"{entry['identical']} of {count}"


def _by_group(entries: Sequence[dict[str, Any]], groups: Sequence[str]) -> Table:
    rows = []
    for entry in entries:
        plain = entry["combination"].draft == "none"
        cells = []
        for name in (*groups, "overall"):
            group = entry["groups"].get(name)
            value = "" if group is None else f"{group['spec_tps']:.1f}" if plain else f"{group['ratio']:.2f}x"
            cells.append(value)
        rows.append([entry["label"], *cells])
    return Table("By prompt group: tokens/s of plain decoding, ratios to it", ["combination", *groups, "all"], rows)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
