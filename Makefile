# Every target does the set-up it needs; `make help` lists them.
#   PYTHON=python3.12      the interpreter to make .venv with (3.11 or newer)
#   PIP_ARGS="..."         more for pip, for instance an index that has torch without CUDA (see README.md)

PYTHON   ?= python3.11
PIP_ARGS ?=
VENV     := .venv
BIN      := $(VENV)/bin
STAMP    := $(VENV)/.installed
DEMO     := runs/demo

# Many images set it. Then every process compiles all its imports again: seconds for torch alone.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint docs snippets clean

help:  ## print this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(STAMP)  ## make .venv with relid_sumo and its tested dependencies

# Runs again only when the dependencies change. pip compiles nothing, which would take half of the time, mostly for files
# that are never imported. Importing compiles the modules of training, and those that sandboxed programs may import (the
# sandbox cannot write).
$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or newer, or name one you have: make install PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" tools/check_system.py
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'import networkx, relid_sumo.learn.train'
	@touch $@

demo: $(STAMP)  ## train RELED on the included town and compare it with the baselines
	rm -rf $(DEMO)
	$(BIN)/relid-sumo demo --out $(DEMO)

# Two workers: SUMO is one process per test, and more of them only wait for memory. A file stays on one worker, so its
# tests share a network or a scenario. The order is that of the folders: pytest-xdist would put files with few tests last,
# but these are the slowest here, and one worker would wait for the other.
test: $(STAMP)  ## run all tests (PYTEST_ARGS="-k name" for some)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(STAMP)  ## check style, types and prose
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/python tools/check_prose.py

check: lint test  ## all that a change must pass: style, types, prose, tests

docs: $(VENV)/.docs-installed  ## build the documentation into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.docs-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[docs]'
	@touch $@

snippets: $(STAMP)  ## run the commands and Python examples of README and docs
	$(BIN)/python tools/check_docs.py

clean:  ## remove .venv, runs and caches (no network or scenario)
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find relid_sumo tools tests -name __pycache__ -type d -prune -exec rm -rf {} +
