# make demo: sets up .venv and does the main job on photos that need no download
# make test: sets up .venv and runs the tests but the slow ones; the last lines list what was skipped and why
# make test-slow: the slow tests; CI runs both
# make torture: kills 200 small trainings at random moments, goes on with each, compares the ends
# make torture-many: kills ranks, workers, actors and nodes of 50 trainings, 50 trials and 20 predictions, 10 minutes at most
# make gpu-check: checks and speeds on this machine's GPU, under 8 minutes; GPU_CHECK="--device cpu" for a CPU
# make gpu-wheels: collects what gpu-check needs beside torch in build/gpu-wheels, for a machine without a network
# make fuzz: feeds damaged files to every loader, 10 minutes or FUZZ_MINUTES=30
# make check: the developer's gate: lint, format, types, and `make test`
# make bench-env: sets up benchmarks/.venv with the peers (some GB, some minutes)
# make bench: the short forms of the benchmarks

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROGRAM := $(VENV)/.program-installed
TOOLS := $(VENV)/.tools-installed
BENCH := benchmarks/.venv
GPU_WHEELS := build/gpu-wheels
PEERS := $(BENCH)/.peers-installed

.PHONY: demo test test-slow torture torture-many gpu-check gpu-wheels fuzz bench bench-env check clean help

help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(PROGRAM)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

test: $(TOOLS)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not torture"

test-slow: $(TOOLS)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not torture"

fuzz: $(TOOLS)
	$(BIN)/python -m tests.fuzz.run $(or $(FUZZ_MINUTES),10)

check: $(TOOLS)
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/mypy
	$(MAKE) test

torture: $(TOOLS)
	$(BIN)/python -m pytest -m torture
	$(BIN)/python -m tests.torture 200

torture-many: $(TOOLS)
	$(BIN)/python -m tests.torture.many

gpu-check:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m tests.gpu_check $(addprefix --wheels ,$(wildcard $(GPU_WHEELS))) $(GPU_CHECK)

gpu-wheels: $(TOOLS)
	$(BIN)/python -m tests.gpu_check.wheels $(GPU_WHEELS)

bench-env: $(PEERS)

bench: $(PEERS)
	@for name in train predict input engines startup; do \
	  $(BENCH)/bin/python benchmarks/$$name.py --short || exit 1; \
	done

clean:
	rm -rf $(VENV) $(BENCH) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; say which to use: make PYTHON=python3.12 demo" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(PROGRAM): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (PyTorch is large: the first time takes some minutes)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[openvino]"
	@touch $@

$(TOOLS): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (PyTorch is large: the first time takes some minutes)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,openvino,jxl,export,int8,serve,ray,slurm]"
	@touch $@ $(PROGRAM)

$(BENCH)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; say which to use: make PYTHON=python3.12 bench-env" >&2; exit 2; }
	$(PYTHON) -m venv $(BENCH)

$(PEERS): pyproject.toml constraints.txt benchmarks/requirements.txt | $(BENCH)/bin/python
	@echo "Installing the peers into $(BENCH) (some GB: this takes some minutes)"
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt -e ".[openvino,int8,export]"
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  --force-reinstall --no-deps opencv-python-headless
	@touch $@
