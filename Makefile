# Everything from a bare Python 3.11 or newer: `make test` and `make demo` set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NEEDS := import sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help venv test test-all demo lint format bench clean distclean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

venv: $(STAMP) ## Create .venv and install the package with its tools

# The first interpreter that runs and is new enough; one that is only a name on PATH does not count.
$(BIN)/python:
	@for candidate in "$(PYTHON)" python3.12 python3.11 python3.13; do \
	  if "$$candidate" -c '$(NEEDS)' >/dev/null 2>&1; then \
	    echo "creating $(VENV) with $$("$$candidate" --version)"; \
	    "$$candidate" -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); \
	    echo "$$candidate cannot create a virtual environment;" \
	      "on Debian and Ubuntu install python3-venv" >&2; \
	    exit 1; \
	  fi; \
	done; \
	echo "fedcredit needs Python 3.11 or newer; found $$("$(PYTHON)" --version 2>&1 || echo none)." \
	  "Install it, or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 1

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

test: lint ## Check style and types, and run the quick tests
	$(BIN)/pytest -n 2 --dist loadfile

test-all: lint ## The same with the slow tests
	$(BIN)/pytest -n 2 --dist loadfile -m ""

demo: $(STAMP) ## Three parties train and score together on this machine
	$(BIN)/fedcredit demo

lint: $(STAMP) ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## Rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## Measure; results go to runs/
	$(BIN)/python -m benchmarks

clean: ## Remove caches and built files
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov
	find . -path ./$(VENV) -prune -o -type d \( -name __pycache__ -o -name '*.egg-info' \) \
	  -exec rm -rf {} +

distclean: clean ## Remove the virtual environment too
	rm -rf $(VENV)
