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
others_said=$(mktemp)
trap 'rm -f "$R2D2_NOT_RUN" "$others_said"' EXIT
arguments=("$@")

# lane MARKERS...: the tests of each expression in a process of their own, one after another.
lane() {
    local status=0 result marker
    for marker in "$@"; do
        .venv/bin/python -m pytest -m "$marker" ${arguments[@]+"${arguments[@]}"}
        result=$?
        if [ "$result" -ne 0 ] && [ "$result" -ne 5 ]; then status=$result; fi # 5: no tests of this kind
        if [ "$result" -eq 2 ]; then break; fi                                # 2: interrupted
    done
    return "$status"
}

# await PID: its exit status, also where a signal comes first.
await() {
    local result
    wait "$1"
    result=$?
    while kill -0 "$1" 2>/dev/null; do
        wait "$1"
        result=$?
    done
    return "$result"
}

signal=INT
interrupt() {
    for pid in $engines $others; do kill -"$signal" -- "-$pid" 2>/dev/null; done
    signal=TERM # for who asks twice
}

# Two lanes side by side: what runs on the engines of the fixtures, and all else. Tests marked spark start and stop
# Spark sessions of their own, which must not meet another one, so they have a process to themselves.
set -m # a process group for each lane, to be interrupted as a whole
engines="" others=""
trap interrupt INT TERM HUP
lane "spark" "not spark and not engine" >"$others_said" 2>&1 </dev/null &
others=$!
lane "engine and not spark" </dev/null &
engines=$!
await "$engines"
status=$?
await "$others"
others_status=$?
cat "$others_said"
sort -u "$R2D2_NOT_RUN"
if [ "$status" -eq 0 ]; then status=$others_status; fi
exit "$status"
