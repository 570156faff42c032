"""The shape of the source tree: who may include whom, how long files may be, what the guide must name."""

import re
from pathlib import Path

import pytest

FLOORS = {
    "base": 0,
    "io": 1,
    "backend": 1,
    "tree": 1,
    "text": 2,
    "model": 2,
    "draft": 3,
    "verify": 3,
    "sched": 3,
    "engine": 4,
    "bindings": 5,
}
CAP = 500
SOURCES = {".h", ".cpp", ".cu", ".cuh", ".inl", ".py", ".pyi"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def included_folders(text: str) -> list[tuple[str, str]]:
    """(folder, whole path) of every quoted include; a path without a folder stays in its own."""
    return [(path.split("/")[0] if "/" in path else "", path) for path in INCLUDE.findall(text)]


def violations(folder: str, text: str) -> list[str]:
    wrong = []
    for other, path in included_folders(text):
        if other in ("", folder):
            continue
        if other not in FLOORS:
            wrong.append(f"{path}: no such folder on any floor")
        elif FLOORS[other] >= FLOORS[folder]:
            wrong.append(f"{path}: floor {FLOORS[other]} from floor {FLOORS[folder]}")
    return wrong


def sources(root: Path, *folders: str) -> list[Path]:
    return [
        path
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.suffix in SOURCES and path.is_file()
    ]


@pytest.mark.parametrize(
    ("folder", "line", "count"),
    [
        ("draft", '#include "base/error.h"', 0),
        ("draft", '#include "draft/drafter.h"', 0),
        ("draft", '#include "drafter.h"', 0),
        ("draft", "#include <engine/engine.h>", 0),
        ("draft", '#include "engine/engine.h"', 1),
        ("draft", '#  include "verify/verifier.h"', 1),
        ("io", '#include "backend/tensor.h"', 1),
        ("io", '#include "somewhere/else.h"', 1),
    ],
)
def test_the_check_itself_sees_what_is_wrong(folder, line, count):
    assert len(violations(folder, f"int x;\n{line}\n")) == count


def test_a_folder_includes_only_lower_floors(repository):
    wrong = []
    for path in sources(repository, "csrc"):
        folder = path.relative_to(repository / "csrc").parts[0]
        wrong += [f"{path.relative_to(repository)}: {text}" for text in violations(folder, path.read_text())]
    assert wrong == []


def test_every_folder_has_a_floor(repository):
    assert {path.name for path in (repository / "csrc").iterdir() if path.is_dir()} <= set(FLOORS)


def test_no_file_is_longer_than_the_cap(repository):
    long = [
        f"{path.relative_to(repository)}: {lines} lines"
        for path in sources(repository, "csrc", "python", "tests", "examples")
        if not (path.suffix == ".inl" and path.is_relative_to(repository / "csrc" / "text"))
        and (lines := len(path.read_text().splitlines())) > CAP
    ]
    assert long == []


def test_the_guide_names_every_folder(repository):
    guide = (repository / "csrc" / "README.md").read_text()
    folders = [path.name for path in (repository / "csrc").iterdir() if path.is_dir()]
    assert folders
    assert [folder for folder in folders if f"`{folder}/`" not in guide] == []


def test_the_version_stands_in_one_place(repository):
    text = (repository / "CMakeLists.txt").read_text()
    version = re.search(r"project\(forerun VERSION ([0-9.]+)", text).group(1)
    assert re.search(rf"^## {re.escape(version)}\b", (repository / "CHANGELOG.md").read_text(), re.M)
    for path in sources(repository, "python", "csrc"):
        assert f'"{version}"' not in path.read_text(), path
