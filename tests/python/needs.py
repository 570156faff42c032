"""What tests need that a machine may lack. Where it is absent the test is skipped, with what would run it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest


def module(name: str, extra: str = "test") -> ModuleType:
    return pytest.importorskip(name, reason=f"needs {name}: pip install '.[{extra}]'")


def program(name: str, package: str) -> str:
    """Its path."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: the package {package} of the distribution")
    return found


def built(repository: Path, file: str) -> Path:
    """The CMake build of $FORERUN_TEST_BUILD (default build/test), which must have made `file`."""
    folder = Path(os.environ.get("FORERUN_TEST_BUILD") or repository / "build" / "test").resolve()
    if not (folder / file).exists():
        pytest.skip(f"needs a CMake build with {file} in {folder}: run `make test`, or name one in FORERUN_TEST_BUILD")
    return folder
