#!/usr/bin/env bash
# Makes the environments of the peers that are no dependencies of this project, below .tools/bench.
# Desbordante is under the AGPL: nothing of this project imports it but the program that measures it, which runs alone.
# Prints nothing where they are there already; a peer whose environment cannot be made is left out, with a message.
set -uo pipefail
cd "$(dirname "$0")/.."

common=(duckdb==2.0.0 "numpy>=2" "pandas<3" "pyarrow>=26,<27")

# environment NAME PACKAGE...: an environment with the common packages and these, once.
environment() {
    local home=.tools/bench/$1
    shift
    if [ "$(cat "$home/complete" 2>/dev/null)" = "$*" ]; then return; fi
    "$uv" venv --quiet --clear --python .venv/bin/python "$home" &&
        "$uv" pip install --quiet --python "$home/bin/python" "${common[@]}" "$@" &&
        printf '%s\n' "$*" >"$home/complete" || printf 'no environment for %s: its runs are left out\n' "$*" >&2
}

uv=$(command -v uv || echo .tools/uv/bin/uv)
environment peers datasketch==2.0.0 datacompy==1.1.0
environment desbordante desbordante==2.5.0
