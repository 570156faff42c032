# make demo: from a bare machine to streamed text. make test: everything that is tested. Both set up what they need.
PYTHON ?= python3
VENV ?= .venv
BUILD ?= build/test
JOBS ?= $(shell nproc)
# With `train`, PyTorch comes too, and the tests of training run.
TEST_EXTRAS ?= test

BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)

# The requirements of a list in pyproject.toml, as pip takes them.
requires = $$(python -c 'from pip._vendor import tomli; d = tomli.load(open("pyproject.toml", "rb")); print(*$(1))')
BUILD_TOOLS := d["build-system"]["requires"]
LINT_TOOLS := d["project"]["optional-dependencies"]["lint"]

.PHONY: help demo test gpu-check sanitize tsan lint format clean

help:
	@echo "make demo      install forerun into $(VENV), fetch a small model, generate with and without speculation"
	@echo "make test      build everything, run the C++ and the Python tests"
	@echo "make gpu-check the CUDA back end on this machine's GPU: tests and bench"
	@echo "make sanitize  the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make tsan      the C++ tests of what has threads under ThreadSanitizer"
	@echo "make lint      ruff and clang-format, check only; make format applies them"
	@echo "make clean     remove what these made"

$(VENV)/pyvenv.cfg:
	tools/system-packages
	$(PYTHON) -m venv $(VENV)

$(VENV)/build-tools: pyproject.toml | $(VENV)/pyvenv.cfg
	pip install --quiet $(call requires,$(BUILD_TOOLS))
	@touch $@

demo: | $(VENV)/pyvenv.cfg
	@echo "building and installing forerun (a few minutes)"
	FORERUN_CUDA=OFF pip install --quiet .
	forerun pull smollm2-135m
	python examples/demo.py

test: $(VENV)/build-tools
	tools/system-packages tests
	@echo "building"
	pip uninstall --quiet --yes forerun
	FORERUN_BUILD_DIR=$(BUILD) CMAKE_ARGS="-DFORERUN_TESTS=ON -DFORERUN_WERROR=ON -DFORERUN_CUDA_ARCHS=90" \
	  pip install --quiet --no-build-isolation ".[$(TEST_EXTRAS)]"
	cmake --build $(BUILD)
	ctest --test-dir $(BUILD) --output-on-failure --parallel $(JOBS)
	if [ -z "$$FORERUN_TEST_MODELS" ]; then forerun pull smollm2-135m; fi
	FORERUN_TEST_BUILD=$(BUILD) python -m pytest

# The CUDA back end on this machine's GPU: tests, compute-sanitizer, bench. Needs nvcc, cmake, ninja and GoogleTest.
gpu-check:
	sh tests/gpu_check.sh build/gpu

# All but what takes minutes without sanitisers. ThreadSanitizer: what has threads.
sanitize: SANITIZERS := address,undefined
sanitize: SUITES := --exclude-regex 'SameText.WithEveryDrafterPolicyBudgetAndThreadCount'
tsan: SANITIZERS := thread
tsan: SUITES := --tests-regex '(ThreadPool|WorkQueue|Ahead|Schedules|Dovetail|Requests|SessionTest)'
sanitize tsan: $(VENV)/build-tools
	tools/system-packages tests
	cmake -S . -B build/$@ -G Ninja -DFORERUN_TESTS=ON -DFORERUN_CUDA=OFF -DFORERUN_SANITIZE=$(SANITIZERS) \
	  -DCMAKE_CXX_COMPILER_LAUNCHER=$$(command -v ccache)
	nice -n 5 cmake --build build/$@ --target forerun_tests
	nice -n 5 ctest --test-dir build/$@ --output-on-failure --parallel $(JOBS) $(SUITES)

$(VENV)/lint-tools: pyproject.toml | $(VENV)/pyvenv.cfg
	pip install --quiet $(call requires,$(LINT_TOOLS))
	@touch $@

CXX_FILES = $(shell git ls-files '*.h' '*.cpp')

lint: $(VENV)/lint-tools
	ruff check .
	ruff format --check .
	clang-format --dry-run -Werror $(CXX_FILES)

format: $(VENV)/lint-tools
	ruff check --fix .
	ruff format .
	clang-format -i $(CXX_FILES)

clean:
	rm -rf build dist $(VENV) .pytest_cache .ruff_cache python/*.egg-info
	find python tests -name __pycache__ -prune -exec rm -rf {} +
