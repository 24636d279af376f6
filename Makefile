# make demo and make test need Python 3.11+ and PyPI, nothing else.
#
# PYTHON=/path/to/python  the interpreter to build .venv with (else the first of the names below that runs)
# WORKERS=n               processes for pytest (else one a core)
# PYTEST_ARGS="..."       passed on to pytest

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
CANDIDATES := python3 python3.13 python3.12 python3.11
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
# One process is faster without xdist.
PARALLEL := $(if $(filter-out 0 1,$(WORKERS)),-n $(WORKERS))

# What pytest makes of assert statements, and Python of src, is kept: it takes 20 s in each process otherwise.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test quick suite lint types full soak coverage docs bench clean venv
.DEFAULT_GOAL := help

help:
	@echo "make demo    run every demo on SQLite"
	@echo "make test    lint, types, demos, tests and documentation's code blocks, on SQLite"
	@echo "make quick   for what differs from main: one case of each test, lint and types, in half a minute"
	@echo "make lint | types | suite    the parts of make test"
	@echo "make full    the suite with all combinations of parameters"
	@echo "make soak    make full, and long random runs"
	@echo "make coverage  lines and branches by package, on SQLite"
	@echo "make docs    build the documentation, warnings are errors"
	@echo "make bench   how to run the benchmarks"
	@echo "make clean   remove .venv and everything generated"

venv: $(READY)

# Finding a name is not enough: pyenv puts names first on PATH that fail when their version is not active.
$(READY): pyproject.toml
	@set -eu; \
	chosen="$(PYTHON)"; \
	if [ -n "$$chosen" ]; then \
	    "$$chosen" -c '$(SUITABLE)' || { echo "PYTHON=$$chosen is not a Python 3.11+ with venv and ensurepip" >&2; exit 1; }; \
	else \
	    folders=$$(printf %s "$$PATH" | tr ':' ' '); \
	    for name in $(CANDIDATES); do \
	        for folder in $$folders; do \
	            [ -z "$$chosen" ] || break 2; \
	            if "$$folder/$$name" -c '$(SUITABLE)' >/dev/null 2>&1; then chosen=$$folder/$$name; fi; \
	        done; \
	    done; \
	    [ -n "$$chosen" ] || { echo "no Python 3.11+ with venv and ensurepip found (tried: $(CANDIDATES)); use make PYTHON=/path/to/python" >&2; exit 1; }; \
	fi; \
	echo "creating $(VENV) with $$("$$chosen" --version)"; \
	"$$chosen" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	@touch $@

demo: $(READY)
	$(BIN)/python -m sqla_patterns demo all

# What is done soon comes first.
test: lint types suite

suite: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Without --project a pyrightconfig.json in a folder above would win over pyproject.toml.
types: $(READY)
	$(BIN)/mypy
	$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

quick: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	files="$$($(BIN)/python tools/quick.py types)"; \
	[ -z "$$files" ] || $(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python $$files
	$(BIN)/python -m pytest -q -x --brief $(PARALLEL) $(PYTEST_ARGS) $$($(BIN)/python tools/quick.py tests)

full: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m full $(PYTEST_ARGS)

soak: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m "full or soak" $(PYTEST_ARGS)

# The checkers, the build and the demos' processes run nothing that would count.
coverage: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q $(PARALLEL) --ignore=tests/test_typing.py --ignore=tests/test_packaging.py $(PYTEST_ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage json -q -o coverage.json
	$(BIN)/python tools/coverage_by_package.py coverage.json

docs: $(READY)
	$(BIN)/sphinx-build -n -W --keep-going -q -b html docs docs/_build/html
	@echo "documentation is in docs/_build/html/index.html"

bench: $(READY)
	@cat benchmarks/README.md

clean:
	rm -rf $(VENV) .nox build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov coverage.json
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
