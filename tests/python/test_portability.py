"""The library on CPUs that this machine is not, by qemu's user emulation, and what its objects export.

Uses the CMake build of $FORERUN_TEST_BUILD (default build/test).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import needs
from tiny_files import make, write_gguf

TINY = {
    "architecture": "llama",
    "layers": 1,
    "width": 256,
    "ffn": 256,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 64,
    "rotary": 64,
    "vocab": 260,
    "epsilon": 1e-5,
}


@pytest.fixture(scope="module")
def build(repository) -> Path:
    return needs.built(repository, "tests/cpp/portable_generate")


@pytest.fixture(scope="module")
def generate(build, tmp_path_factory):
    """Runs the program, under an emulated CPU when one is named."""
    files, _ = make(np.random.default_rng(2), TINY, "Q4_K", "Q6_K")
    model = tmp_path_factory.mktemp("portability") / "tiny.gguf"
    write_gguf(model, TINY, files)

    def run(cpu: str | None = None, isa: str | None = None) -> subprocess.CompletedProcess:
        command = [str(build / "tests" / "cpp" / "portable_generate"), str(model)]
        if cpu is not None:
            command = [needs.program("qemu-x86_64", "qemu-user"), "-cpu", cpu, *command]
        environment = {key: value for key, value in os.environ.items() if key != "FORERUN_ISA"}
        if isa is not None:
            environment["FORERUN_ISA"] = isa
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)

    return run


def test_a_cpu_with_avx2_alone_writes_the_text_of_this_machine(generate):
    here, there = generate(), generate("Haswell")
    assert here.returncode == 0, here.stderr
    assert there.returncode == 0, there.stderr
    tokens, backend = there.stdout.splitlines()
    assert len(tokens.split()) == 12
    assert tokens == here.stdout.splitlines()[0]
    assert backend.startswith("avx2,")


@pytest.mark.parametrize("cpu", ["Nehalem", "Westmere", "SandyBridge"])
def test_an_older_cpu_is_refused_with_a_reason(generate, cpu):
    result = generate(cpu)
    assert result.returncode == 1, result.returncode  # a signal would be negative
    assert result.stdout == ""
    assert "lacks AVX2, FMA or F16C; FORERUN_ISA=scalar runs the plain loops" in result.stderr


def test_the_plain_loops_run_where_there_is_no_avx(generate):
    here, there = generate(), generate("Nehalem", isa="scalar")
    assert there.returncode == 0, there.stderr
    assert there.stdout.splitlines()[0] == here.stdout.splitlines()[0]
    assert there.stdout.splitlines()[1].startswith("scalar,")


def test_objects_with_their_own_instruction_set_export_one_symbol(build):
    """The linker keeps one copy of what two objects define: were it theirs, older machines would run it."""
    needs.program("nm", "binutils")
    if "FORERUN_SANITIZE:STRING=\n" not in (build / "CMakeCache.txt").read_text():
        pytest.skip(f"{build} is a build with sanitisers, which add symbols of their own")
    checked = []
    for entry in json.loads((build / "compile_commands.json").read_text()):
        words = entry["command"].split()
        flags = [word for word in words if word.startswith(("-mavx", "-mfma", "-mf16c", "-mamx", "-march"))]
        made = words[words.index("-o") + 1]
        if not flags or not made.startswith("csrc/") or not entry["file"].endswith(".cpp"):
            continue
        target = Path(entry["directory"], made)
        listing = subprocess.run(["nm", "--defined-only", str(target)], capture_output=True, text=True, check=True)
        symbols = [line.split() for line in listing.stdout.splitlines()]
        visible = [(kind, name) for _, kind, name in symbols if kind not in "trdbn"]
        initialisers = [name for _, _, name in symbols if "_GLOBAL__sub_I" in name]
        assert len(visible) == 1, (target.name, visible)
        assert visible[0][0] in "RDB", visible  # data, neither weak nor unique
        assert initialisers == []
        checked.append(target.name)
    assert len(checked) >= 2 or os.uname().machine != "x86_64"


@pytest.mark.parametrize("pattern", ["csrc/libforerun.so", "csrc/bindings/_core*.so"])
def test_no_library_asks_for_an_executable_stack(build, pattern):
    needs.program("readelf", "binutils")
    libraries = list(build.glob(pattern))
    if not libraries:
        pytest.skip(f"{build} was made without {pattern}")
    for library in libraries:
        listing = subprocess.run(["readelf", "-lW", str(library)], capture_output=True, text=True, check=True).stdout
        stack = next(line.split() for line in listing.splitlines() if "GNU_STACK" in line)
        assert "E" not in stack[6], stack  # type, offset, two addresses, two sizes, flags
