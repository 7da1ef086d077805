.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all bench lint format clean

help: ## Show these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

setup: ## Make .venv with all that uv.lock lists; needs only Python 3.11 or newer
	@scripts/setup_python.sh

demo: setup ## Make a small lake with known redundancy and audit it into demo/results
	@.venv/bin/r2d2 sample demo/lake --overwrite && .venv/bin/r2d2 audit demo/lake --out demo/results

test: setup ## Run all tests on Sail, and the core ones on Spark and Spark Connect too
	@scripts/run_tests.sh --engine standard

test-all: setup ## Run all tests on all engines
	@scripts/run_tests.sh --engine all

bench: setup ## Run small benchmarks, in a quarter of an hour; results go to build/bench
	@.venv/bin/python -m benchmarks.run --quick --results build/bench && .venv/bin/python -m benchmarks.report --results build/bench --print

lint: setup ## Check format, lint, types and who imports whom
	@scripts/lint.sh

format: setup ## Put the code into the format that lint checks
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

clean: ## Remove all that the other targets have made
	@rm -rf .venv .tools demo dist build spark-warehouse .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
