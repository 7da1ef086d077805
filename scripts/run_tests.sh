#!/usr/bin/env bash
# Gets what the tests need besides Python, then runs them; the arguments go to pytest.
# What cannot be had is no error here: the tests that miss it say so in the last lines, and fail where CI=true.
set -uo pipefail
cd "$(dirname "$0")/.."

if home=$(scripts/setup_java.sh); then
    export JAVA_HOME=$home
    scripts/setup_jars.sh || export R2D2_NO_JARS=1
else
    unset JAVA_HOME
fi
if [ -n "$(find tests/browser -name 'test_*.py' 2>/dev/null)" ]; then scripts/setup_browser.sh; fi

R2D2_NOT_RUN=$(mktemp)
export R2D2_NOT_RUN
trap 'rm -f "$R2D2_NOT_RUN"' EXIT
status=0

# Tests marked spark start and stop Spark sessions of their own, which the fixtures' sessions must not meet.
for marker in "spark" "not spark"; do
    .venv/bin/python -m pytest -m "$marker" "$@"
    result=$?
    if [ "$result" -ne 0 ] && [ "$result" -ne 5 ]; then status=$result; fi # 5: no tests of this kind
    if [ "$result" -eq 2 ]; then break; fi                                # 2: interrupted
done
sort -u "$R2D2_NOT_RUN"
exit "$status"
