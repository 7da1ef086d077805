#!/usr/bin/env bash
# Prints the home of a Java that runs Spark (17 or newer), installing one where that is allowed; fails if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/system_packages.sh

# home_of JAVA: its home if it is new enough.
home_of() {
    "$1" -XshowSettings:properties -version 2>&1 </dev/null | awk -F ' = ' '
        $1 ~ /java\.home$/ {home = $2}
        $1 ~ /java\.specification\.version$/ {version = $2}
        END {if (version + 0 < 17) exit 1; print home}'
}

find_java() {
    local java
    for java in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" /usr/lib/jvm/*/bin/java \
        /opt/homebrew/opt/openjdk*/bin/java /usr/local/opt/openjdk*/bin/java; do
        if [ -x "$java" ] && home_of "$java" 2>/dev/null; then return; fi
    done
    return 1
}

find_java && exit
say "Java 17 or newer is missing: installing it"
case $(package_manager) in
    apt) packages="openjdk-17-jre-headless openjdk-21-jre-headless" ;;
    dnf) packages="java-17-openjdk-headless java-21-openjdk-headless" ;;
    *) packages="openjdk@17" ;;
esac
for package in $packages; do
    if install_packages "$package"; then break; fi
done
find_java
