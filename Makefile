# Two commands are enough: `make demo` shows the project at work, `make test` checks it.
# Everything runs from .venv, which is made on the first call and kept up to date.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
CODE := src tests scripts benchmarks

comma := ,

# What can be set on the command line.
PARAMS ?=
ARGS ?=
JOBS ?= 2
PORT ?= 4141
KILLS ?= 200
SEED ?= 0
EXAMPLES ?= 20000

# Nothing is reported to anyone, whatever the machine's own settings say.
export DO_NOT_TRACK := 1
export KEDRO_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help setup demo test lint types contracts unit bench soak fuzz format viz notebook clean clean-data

help: ## show this list
	@echo "usage: make TARGET [NAME=value ...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv; skipped when up to date (PYTHON=, TORCH_BACKEND=cpu, see scripts/setup.sh)

# The stamp holds the folder that the environment was made in: its programs work only there.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif
$(STAMP): pyproject.toml constraints.txt scripts/setup.sh scripts/warm_up.py
	@scripts/setup.sh

# The demo corpus is small: the preset for it is `cpu`, on a GPU too.
demo: setup ## run the main job on the demo corpus and say where to look (PARAMS="name=value,...")
	$(BIN)/kedro run --params "preset=cpu$(if $(PARAMS),$(comma)$(PARAMS))"
	@$(BIN)/python scripts/show_results.py

# All checks run even when one fails; the tests are last, so that their summary ends the output.
test: setup ## lint, types, import contracts, then the tests with coverage
	@failed=; \
	for check in lint types contracts unit; do \
	  echo "== $$check"; \
	  $(MAKE) --no-print-directory $$check || failed="$$failed $$check"; \
	done; \
	if [ -n "$$failed" ]; then echo "make test: FAILED:$$failed" >&2; exit 1; fi

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)

types: setup ## mypy --strict on src/
	@$(BIN)/mypy

contracts: setup ## import-linter: who may import whom
	@$(BIN)/lint-imports

# One thread per process: JOBS processes with a pool each would fight for the cores.
unit: setup ## the tests alone, with coverage (ARGS="-k name", JOBS=2)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --cov --cov-report=term-missing:skip-covered $(ARGS)

bench: setup ## run the benchmarks, write benchmarks/results.md (ARGS="--quick" or names)
	@$(BIN)/python benchmarks/run.py $(ARGS)

soak: setup ## kill every stage at random, many times (KILLS=200, SEED=0)
	@OMP_NUM_THREADS=1 AMT_KILLS=$(KILLS) AMT_SEED=$(SEED) $(BIN)/pytest tests/faults -s

fuzz: setup ## damage files of every format at random (EXAMPLES=20000)
	@OMP_NUM_THREADS=1 AMT_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/fuzz/test_fuzz_readers.py $(ARGS)

format: setup ## let ruff repair and format the code
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

viz: setup ## draw the pipelines in the browser (PORT=4141)
	$(BIN)/kedro viz run --port $(PORT)

notebook: setup ## run every notebook from top to bottom (ARGS=--inplace keeps the outputs)
	$(BIN)/jupyter execute $(ARGS) notebooks/*.ipynb

clean: ## remove caches and build products; keeps .venv and data
	rm -rf build dist .make .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# Trained models can be weeks of work: they go only when asked for twice. Raw data is never touched.
clean-data: ## remove what the pipelines made, models included (YES=1); keeps data/01_raw
	@du -sh data/0[2-8]_* 2>/dev/null; \
	if [ "$(YES)" = 1 ]; then rm -rf data/0[2-8]_*; echo "removed"; \
	else echo "make clean-data YES=1 removes these"; fi
