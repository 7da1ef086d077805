#!/usr/bin/env bash
# Runs every check, the later ones too when an earlier one fails.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
for check in "ruff format --check ." "ruff check ." "mypy" "lint-imports"; do
    printf '== %s\n' "$check"
    .venv/bin/$check || status=1
done
exit $status
