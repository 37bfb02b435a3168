# Every target does the set-up it needs; `make help` lists them.
#   PYTHON=python3.12      the interpreter to make .venv with (3.11 or newer)
#   PIP_ARGS="..."         more for pip, for instance an index that has torch without CUDA (see README.md)

PYTHON   ?= python3.11
PIP_ARGS ?=
VENV     := .venv
BIN      := $(VENV)/bin
STAMP    := $(VENV)/.installed
DEMO     := runs/demo

# Many images set it, and every process would then compile all that it imports anew: seconds for torch alone.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(STAMP)  ## make .venv and install relid_sumo and its tested dependencies into it

# Installed again only when what is to be installed has changed. Not compiled beforehand, which is half of the time, for
# files of which most are never imported: what training imports, and what programs may import in the sandbox (which writes
# nothing), is compiled by importing it.
$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or newer, or name one you have: make install PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" tools/check_system.py
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'import networkx, relid_sumo.learn.train'
	@touch $@

demo: $(STAMP)  ## learn to route on the embedded town and compare with the baselines
	rm -rf $(DEMO)
	$(BIN)/relid-sumo train town --algo reled --seed 0 --episodes 64 --curriculum meso:0.8,micro:0.2 --out $(DEMO)
	$(BIN)/relid-sumo evaluate $(DEMO) --seeds 5 --baselines random,shortest,reactive,rerouting

# Two workers: SUMO is one process per test, and more of them only wait for memory. A file stays on one worker, so that
# what its tests share (a network, a scenario) is made once. In the order of the folders: files with few tests, which
# pytest-xdist would put last, are the slowest here, and one worker would wait for the other.
test: $(STAMP)  ## run all tests (PYTEST_ARGS="-k name" for some)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict

check: lint test  ## everything a change has to pass: style, types, tests

clean:  ## remove .venv, runs and caches (never a network or a scenario)
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find relid_sumo tools tests -name __pycache__ -type d -prune -exec rm -rf {} +
