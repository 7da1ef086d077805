#!/usr/bin/env bash
# Fetches Delta's jars once into Spark's Ivy cache, from where they serve offline.
set -euo pipefail
cd "$(dirname "$0")/.."
package=$(.venv/bin/python -c 'from r2d2.session import delta_package; print(delta_package())')
stamp=.tools/$(printf %s "$package" | tr ':' '_').jars
name=$(printf %s "$package" | sed 's/:\([^:]*\):/_\1-/')
if [ -e "$stamp" ] && compgen -G "$HOME/.ivy2*/jars/$name.jar" >/dev/null; then exit; fi
.venv/bin/python scripts/fetch_jars.py || .venv/bin/python scripts/fetch_jars.py
mkdir -p .tools
touch "$stamp"
