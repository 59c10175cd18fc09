VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench

demo: $(READY)  ## simulate, serve, prepare, train, report: the whole way in a few minutes
	$(BIN)/python -m demo

test: $(READY)  ## every test
	$(BIN)/python -m pytest

check: $(READY)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)  ## what is measured, each with its table
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# The exact torch first: pip then finds its range met, and does not fetch another build.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
