"""The wheel, and a C++ program built against an installed tree.

Both reuse the CMake build of $FORERUN_TEST_BUILD (default build/test), so that nothing is compiled twice.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import needs

pytestmark = pytest.mark.slow


def run(*command, **options) -> str:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def build(repository) -> Path:
    return needs.built(repository, "CMakeCache.txt")


@pytest.fixture(scope="module")
def wheel(build, repository, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    environment = {**os.environ, "FORERUN_BUILD_DIR": str(build)}
    run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", out, repository),
        env=environment,
    )
    return next(out.glob("forerun-*.whl"))


@pytest.fixture(scope="module")
def prefix(build, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", build, "--prefix", folder)
    return folder


def test_the_wheel_holds_what_it_must_and_nothing_else(wheel, repository):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        str(path.relative_to(repository / "python"))
        for pattern in ("*.py", "*.pyi")
        for path in (repository / "python").rglob(pattern)
    }
    data = {"forerun/py.typed", "forerun/models.json", "forerun/tree_page.html", "forerun/libforerun.so.0"}
    data |= {"forerun/heads/README.md", "forerun/heads/smollm2-135m.gguf"}
    assert modules | data <= names
    assert any(name.startswith("forerun/_core.") and name.endswith(".so") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith(("forerun/", "forerun-")) for name in names)
    libraries = [name for name in names if ".so" in name]
    assert len(libraries) == 2 + any("cuda" in name for name in libraries)


def test_the_wheel_runs_where_it_is_unpacked(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import forerun, sys; print(forerun.__file__, forerun.__version__)"
    found = run(sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert found.split() == [str(tmp_path / "forerun" / "__init__.py"), wheel.name.split("-")[1]]


def test_the_libraries_ask_for_no_executable_stack_and_no_build_folder(wheel, tmp_path):
    needs.program("readelf", "binutils")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    for library in (tmp_path / "forerun").glob("*.so*"):
        stack = next(line for line in run("readelf", "-lW", library).splitlines() if "GNU_STACK" in line)
        assert "RWE" not in stack
        paths = [line for line in run("readelf", "-d", library).splitlines() if "PATH)" in line]
        assert all("$ORIGIN" in line and "build" not in line for line in paths)


@pytest.mark.real_model
def test_the_embed_example_builds_against_an_installed_tree(prefix, repository, smollm2_path, tmp_path):
    source = shutil.copytree(repository / "examples" / "embed", tmp_path / "embed")
    run(
        *("cmake", "-S", source, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}"),
        "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror",
    )
    run("cmake", "--build", tmp_path / "build")
    answer = run(tmp_path / "build" / "embed", smollm2_path, 8, input="The capital of France is\n")
    assert "Paris" in answer
    refused = subprocess.run(
        [tmp_path / "build" / "embed", "no-such-file"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "no-such-file" in refused.stderr


def test_pkg_config_describes_the_installed_library(prefix):
    needs.program("pkg-config", "pkg-config")
    folder = next(prefix.rglob("forerun.pc")).parent
    environment = {**os.environ, "PKG_CONFIG_PATH": str(folder)}
    flags = run("pkg-config", "--cflags", "--libs", "forerun", env=environment).split()
    included = Path(next(flag[2:] for flag in flags if flag.startswith("-I")))
    linked = Path(next(flag[2:] for flag in flags if flag.startswith("-L")))
    assert (included / "forerun" / "engine.h").exists()
    assert (linked / "libforerun.so").exists()


@pytest.mark.parametrize("wanted", ["0.2", "1.0"])
def test_another_version_is_not_found(prefix, tmp_path, wanted):
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.22)\nproject(x LANGUAGES CXX)\nfind_package(forerun {wanted} REQUIRED)\n"
    )
    result = subprocess.run(
        ["cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={prefix}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "version" in result.stderr
