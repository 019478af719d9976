# make demo: sets up .venv and does the main job on photos that need no download
# make test: sets up .venv and runs the tests
# make check: the developer's gate: lint, format, types, quick tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROGRAM := $(VENV)/.program-installed
TOOLS := $(VENV)/.tools-installed

.PHONY: demo test check clean help

help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(PROGRAM)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

test: $(TOOLS)
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(TOOLS)
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,openvino]"
	@touch $@ $(PROGRAM)
