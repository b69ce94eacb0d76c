# Every target does its own set-up: `make run` on a fresh clone is enough. Works with GNU make 3.81 and newer.
#
#   PYTHON       the Python that makes .venv, 3.11 or newer           make setup PYTHON=python3.12
#   TORCH_INDEX  where torch comes from (see tools/setup_env.py);     make clean setup TORCH_INDEX=
#                set to nothing: the default package index alone
#   JOBS         test processes; 0 runs the tests in one process      make test JOBS=0
#   ARGS         more words for the program or for pytest             make test ARGS="-k attention"

PYTHON ?= python3
JOBS ?= 2
ARGS ?=

PY := .venv/bin/python
READY := .venv/.ready
# Each test process computes on one thread: JOBS processes with a thread pool each would fight over the cores.
# A file's tests stay in one process, so that the real models are loaded once.
PYTEST = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast test-full bench docs reference lint format clean FORCE

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv with everything pinned (the others do this by themselves)
	@:

run: $(READY) ## open the page and talk to the default model
	@$(PY) -m glassgpt serve --open $(ARGS)

test: $(READY) ## every test that CI runs
	$(PYTEST) -m "not full" $(ARGS)

test-fast: $(READY) ## the tests that take about two minutes in all
	$(PYTEST) -m "not slow and not full" $(ARGS)

test-full: $(READY) ## all tests, the long proofs too
	$(PYTEST) $(ARGS)

bench: $(READY) ## measure speed and memory on this machine
	@$(PY) -m benchmarks $(ARGS)

docs: $(READY) ## the documentation as a site in site/, English and Chinese, which needs no internet
	@$(PY) tools/docs/build.py $(ARGS)

reference: $(READY) ## write the pages anew that are made from others: the reference, the course's list
	@$(PY) tools/reference.py
	@$(PY) tools/course_contents.py

lint: $(READY) ## style, types and the layers of the house plan
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo

format: $(READY) ## put the code into the house style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## remove .venv and the caches of the tools
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist src/*.egg-info

# Made again when a pin changes, or when the Python that .venv was made from is gone.
$(READY): pyproject.toml constraints.txt tools/setup_env.py $(shell test -x $(PY) || echo FORCE)
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: install Python 3.11 or newer, or name one with PYTHON=" >&2; exit 1; }
	@$(PYTHON) tools/setup_env.py
	@$(PY) -m glassgpt.engine.native
	@touch $@
