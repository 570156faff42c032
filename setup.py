"""Builds the wheel: CMake compiles csrc/ and installs its `python` component beside the package.

Environment: CMAKE_ARGS (more options for CMake), FORERUN_CUDA (AUTO, ON or OFF), FORERUN_BUILD_DIR
(a CMake build folder to reuse), CMAKE_BUILD_PARALLEL_LEVEL (compile jobs; default: all cores).
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent

CXX20_PROBE = """
#include <concepts>
#include <span>
struct Options { int a = 1; double b = 2; };
template <std::integral T> T twice(T x) { return 2 * x; }
int main() {
  int data[2] = {1, 2};
  Options options{.a = 3, .b = 4};
  return twice(static_cast<int>(std::span<int>(data).size())) + options.a - 7;
}
"""


def version() -> str:
    """The one place that states it is project() in CMakeLists.txt."""
    text = (ROOT / "CMakeLists.txt").read_text()
    match = re.search(r"project\(forerun VERSION ([0-9.]+)", text)
    if match is None:
        raise SystemExit("forerun: CMakeLists.txt states no version in project(forerun VERSION ...)")
    return match.group(1)


def find_cxx20() -> None:
    """Stops with what to do when there is no C++20 compiler; CMake's own message is long and late."""
    candidates = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    tried = []
    for name in filter(None, candidates):
        command = shlex.split(name)
        if shutil.which(command[0]) is None:
            tried.append(f"{name}: not found")
            continue
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.cpp")
            source.write_text(CXX20_PROBE)
            run = subprocess.run(
                [*command, "-std=c++20", str(source), "-o", str(Path(folder, "probe"))],
                capture_output=True,
                text=True,
            )
        if run.returncode == 0:
            os.environ.setdefault("CXX", name)
            return
        tried.append(f"{name}: cannot compile C++20")
    raise SystemExit(
        "\nforerun needs a C++20 compiler (gcc 11 or clang 14, or newer) to build from source.\n"
        f"Tried: {'; '.join(tried)}.\n"
        "Install one (Debian or Ubuntu: apt-get install g++) or name one in the CXX variable.\n"
    )


def tool(name: str) -> str:
    """A program on PATH, where pip's build environment comes first, else beside this Python."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.exists() else None)
    if found is None:
        raise SystemExit(f"forerun: {name} not found; pip install {name}")
    return found


class CMakeBuild(build_ext):
    """Configures, compiles and installs `_core` and libforerun into the package's folder."""

    def run(self) -> None:
        find_cxx20()
        package = Path(self.get_ext_fullpath("forerun._core")).resolve().parent
        build = Path(os.environ.get("FORERUN_BUILD_DIR") or Path(self.build_temp) / "cmake").resolve()
        cmake = tool("cmake")
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(len(os.sched_getaffinity(0)))
        self.command([cmake, "-S", str(ROOT), "-B", str(build), "-G", "Ninja", *self.options()])
        self.command([cmake, "--build", str(build), "--parallel", jobs, "--target", "_core"])
        self.command([cmake, "--install", str(build), "--component", "python", "--prefix", str(package)])

    def options(self) -> list[str]:
        import pybind11

        options = {
            "CMAKE_BUILD_TYPE": "Debug" if self.debug else "Release",
            "CMAKE_MAKE_PROGRAM": tool("ninja"),
            "FORERUN_CUDA": os.environ.get("FORERUN_CUDA", "AUTO"),
            "FORERUN_PYTHON": "ON",
            "Python_EXECUTABLE": sys.executable,
            "Python_INCLUDE_DIR": sysconfig.get_path("include"),
            "pybind11_DIR": pybind11.get_cmake_dir(),
        }
        with contextlib.suppress(ImportError):  # without the package CMake looks for the system's header
            import nlohmann_json

            include = Path(nlohmann_json.__file__).parent / "include"
            options["NLOHMANN_JSON_INCLUDE_DIR"] = str(include)
        more = shlex.split(os.environ.get("CMAKE_ARGS", ""))
        return [f"-D{name}={value}" for name, value in options.items()] + more

    def command(self, arguments: list[str]) -> None:
        self.announce(shlex.join(arguments), level=2)
        code = subprocess.run(arguments).returncode
        if code != 0:
            raise SystemExit(f"\nforerun: {shlex.join(arguments[:3])} ... failed (exit {code}); see above\n")


setup(
    version=version(),
    ext_modules=[Extension("forerun._core", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
