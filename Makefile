VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# hdmf-zarr, which writes NWB as Zarr for the tests, needs zarr 2: an environment of its own.
ZARR2 := $(VENV)-zarr2
ZARR2_READY := $(ZARR2)/.ready
# hdmf-zarr 0.14 writes Zarr v3. It declares Python 3.12 and zarr 3.4, and runs with these versions.
ZARR3 := $(VENV)-zarr3
ZARR3_READY := $(ZARR3)/.ready

.PHONY: demo test quick check bench

demo: $(READY)  ## simulate, serve, prepare, train, report: the whole way in a few minutes
	$(BIN)/python -m demo

test: $(READY) $(ZARR2_READY) $(ZARR3_READY)  ## every test
	$(BIN)/python -m pytest

quick: $(READY)  ## the tests that take no long time
	$(BIN)/python -m pytest -m "not slow"

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

$(ZARR2_READY): tests/support/hdmf_zarr/constraints.txt
	$(PYTHON) -m venv $(ZARR2)
	$(ZARR2)/bin/pip install --quiet --requirement $<
	touch $@

$(ZARR3_READY): tests/support/hdmf_zarr/constraints-v3.txt
	$(PYTHON) -m venv $(ZARR3)
	$(ZARR3)/bin/pip install --quiet --no-deps --ignore-requires-python --requirement $<
	touch $@
