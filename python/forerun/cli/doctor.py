from __future__ import annotations

import platform
from typing import Any

from rich.table import Table

import forerun
from forerun import _core, models
from forerun.cli import common

PROBE_MIB = 512


def doctor(as_json: common.AsJson = False) -> None:
    """Show what forerun finds on this machine: CPU, kernels, memory bandwidth, CUDA."""
    report = examine()
    if as_json:
        common.print_json(report)
        return
    cpu, cuda = report["cpu"], report["cuda"]
    table = Table(show_header=False, box=None)
    table.add_row("forerun", f"{report['forerun']} on Python {report['python']}")
    table.add_row("cpu", f"{cpu['model']}, {cpu['cores']} usable cores")
    table.add_row("features", ", ".join(cpu["features"]) or "none that matter")
    table.add_row("kernels", f"{cpu['isa']} (available: {', '.join(cpu['isas_available'])})")
    for types, kernels in _products(report["products"]).items():
        table.add_row("products", f"{', '.join(types)}: {kernels}")
    for threads, speed in report["bandwidth_gbs"].items():
        table.add_row("read bandwidth", f"{speed:.1f} GB/s, {threads} thread(s)")
    table.add_row("cuda", "available" if cuda["available"] else f"not used: {cuda['reason']}")
    table.add_row("cache", report["cache"])
    table.add_row("pulled models", ", ".join(report["pulled"]) or "none")
    common.out.print(table)


def examine() -> dict[str, Any]:
    cpu = _core.cpu_info()
    return {
        "forerun": forerun.__version__,
        "python": platform.python_version(),
        "cpu": cpu,
        "bandwidth_gbs": {
            str(threads): _core.read_bandwidth(threads, PROBE_MIB) for threads in sorted({1, cpu["cores"]})
        },
        "products": [
            {"type": name, "up_to_rows": rows or None, "kernel": kernel}
            for name, rows, kernel in _core.kernel_uses(cpu["cores"])
        ],
        "cuda": _core.cuda_info(),
        "cache": str(models.cache_dir()),
        "pulled": [model.name for model in models.catalogue().values() if model.pulled],
    }


def _products(uses: list[dict[str, Any]]) -> dict[tuple[str, ...], str]:
    """Types whose products go through the same kernels, with these by number of rows."""
    by_type: dict[str, str] = {}
    for use in uses:
        part = f"{use['kernel']} up to {use['up_to_rows']} rows" if use["up_to_rows"] else str(use["kernel"])
        by_type[use["type"]] = f"{by_type[use['type']]}, then {part}" if use["type"] in by_type else part
    together: dict[str, list[str]] = {}
    for name, kernels in by_type.items():
        together.setdefault(kernels, []).append(name)
    return {tuple(names): kernels for kernels, names in together.items()}
