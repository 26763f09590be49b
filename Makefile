# make help        lists the targets
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
NAME ?=
# Processes that the tests run in; a file's tests stay together. 0: one, in which a debugger works. One that dies is not
# started again, because pytest-xdist 3.8 may then wait for ever (its issue 1378)
WORKERS ?= 2
# Options for pip when PyTorch is installed, e.g. the index of your GPU's build (see README, "Hardware")
TORCH_ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)

.DEFAULT_GOAL := help

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r t d; do printf '  make %-12s %s\n' "$$t" "$$d"; done

setup: $(VENV)/.installed  ## make .venv with the package and all pinned dependencies

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}; try: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (about 2 GB on disk, a few minutes the first time) ..."
	@$(PIP) install $(TORCH_ARGS) -c constraints.txt "$(TORCH)"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

quickstart: setup  ## real data to a served model, with a report (ARGS=--once stops after it)
	@$(BIN)/deepseek quickstart --results benchmarks/results/quickstart.json $(ARGS)

test: setup  ## lint, types, layers, tests: everything that CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0 $(ARGS)

test-slow: setup  ## the tests that take over a minute
	$(BIN)/python -m pytest -m slow --timeout=1800 $(ARGS)

test-gpu: setup  ## the tests that need a GPU
	$(BIN)/python -m pytest -m gpu --timeout=1800 $(ARGS)

bench: setup  ## run one benchmark: make bench NAME=quickstart
	@test -n "$(NAME)" -a -f "benchmarks/$(NAME).py" || { echo "expected NAME=... one of: $$(ls benchmarks/*.py | xargs -n1 basename | sed 's/\.py$$//' | tr '\n' ' ')"; exit 2; }
	$(BIN)/python benchmarks/$(NAME).py $(ARGS)

report: setup  ## render all benchmark results as docs/benchmarks.md
	$(BIN)/python -m benchmarks.report

format: setup  ## fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and runs, keep .venv
	rm -rf runs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.PHONY: help setup quickstart test test-slow test-gpu bench report format clean
