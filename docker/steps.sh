#!/bin/sh
# The steps of the image, in a file of their own so that they can be run and tested outside of a container.
# Usage: steps.sh install PREFIX (from the root of the sources) | steps.sh check PREFIX
set -eu

# Exactly what uv.lock lists, without the tools of development, into a virtual environment.
install() {
    UV_PROJECT_ENVIRONMENT="$1" UV_LINK_MODE=copy UV_COMPILE_BYTECODE="${UV_COMPILE_BYTECODE:-1}" \
        uv sync --quiet --frozen --no-dev --no-editable --all-extras --python "${PYTHON:-python3}"
}

# The command works, and is the one that was installed, not the sources beside it.
check() {
    cd /
    "$1/bin/python" -c 'import r2d2; print(r2d2.__file__)'
    "$1/bin/r2d2" --help
}

step=$1
shift
case $step in
    install) install "$@" ;;
    check) check "$@" ;;
    *) echo "unknown step: $step; known: install, check" >&2; exit 2 ;;
esac
