#!/usr/bin/env bash
# Finds a Chromium for the tests of the report, or installs one where that is allowed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/system_packages.sh

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then exit; fi
done
say "Chromium is missing: installing it"
install_packages chromium
