# Third-party headers and libraries. All come from PyPI or the distribution; nothing is downloaded here.
find_package(Threads REQUIRED)

# nlohmann-json, header only: the PyPI package `nlohmann-json`, the distribution's, or -DNLOHMANN_JSON_INCLUDE_DIR=.
if(NOT NLOHMANN_JSON_INCLUDE_DIR)
  # find_package(Python3) here would spoil pybind11's own search for Python.
  find_program(FORERUN_PYTHON_PROGRAM NAMES python3 python)
  if(FORERUN_PYTHON_PROGRAM)
    execute_process(
      COMMAND ${FORERUN_PYTHON_PROGRAM} -c
              "import pathlib, nlohmann_json as m; print(pathlib.Path(m.__file__).parent / 'include')"
      OUTPUT_VARIABLE _json_dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  find_path(NLOHMANN_JSON_INCLUDE_DIR nlohmann/json.hpp HINTS ${_json_dir})
endif()
if(NOT NLOHMANN_JSON_INCLUDE_DIR)
  message(FATAL_ERROR "nlohmann/json.hpp not found: `pip install nlohmann-json` or `apt install nlohmann-json3-dev`, "
                      "or pass -DNLOHMANN_JSON_INCLUDE_DIR=<folder that holds nlohmann/>")
endif()
add_library(forerun_json INTERFACE)
target_include_directories(forerun_json SYSTEM INTERFACE ${NLOHMANN_JSON_INCLUDE_DIR})
