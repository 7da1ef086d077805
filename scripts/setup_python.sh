#!/usr/bin/env bash
# Makes .venv with exactly what uv.lock lists. Gets uv itself with pip, below .tools/, where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/system_packages.sh

find_python() {
    local candidate
    for candidate in "${UV_PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
        "$candidate" -c 'import sys; assert sys.version_info >= (3, 11); print(sys.executable)' 2>/dev/null && return
    done
    say "R2D2 needs Python 3.11 or newer (duckdb 2.0 does); found: $(python3 --version 2>&1 || echo none)"
    return 1
}

find_uv() {
    local candidate
    for candidate in uv .tools/uv/bin/uv; do
        "$candidate" --version >/dev/null 2>&1 && echo "$candidate" && return
    done
    return 1
}

# Below .tools/ only: pip refuses to touch the system's own packages on many systems.
get_uv() {
    local python=$1
    say "uv is missing: getting it below .tools/"
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -c 'import ensurepip' 2>/dev/null ||
        install_packages python3-venv || true
    if "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip install --quiet --root-user-action=ignore --upgrade --target .tools/uv uv
    elif "$python" -m venv .tools/uv; then
        .tools/uv/bin/python -m pip install --quiet uv
    else
        say "neither uv nor pip nor venv is there; install one of them (Debian: apt-get install python3-venv)"
        return 1
    fi
}

python=$(find_python)
uv=$(find_uv) || { get_uv "$python" && uv=$(find_uv); }
if .venv/bin/python -c 'import sys; assert sys.version_info >= (3, 11)' 2>/dev/null; then
    python=.venv/bin/python
fi
# Where Python may not keep what it compiles, as in many images, each process would compile all that it imports.
if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then export UV_COMPILE_BYTECODE=1; fi
UV_PYTHON_DOWNLOADS=never "$uv" sync --quiet --frozen --all-extras --python "$python"
if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then .venv/bin/python -m compileall -q r2d2; fi
