# Sourced by the other scripts: installs packages of the operating system where that is allowed.

say() { printf '%s\n' "$*" >&2; }

# Run a command as root, without asking for a password; fails where that is not allowed.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# The package manager found here: apt, dnf, brew, or nothing.
package_manager() {
    if command -v apt-get >/dev/null; then echo apt
    elif command -v dnf >/dev/null; then echo dnf
    elif command -v brew >/dev/null; then echo brew
    fi
}

# install_packages PACKAGE...: quietly; the package manager's own words appear only when it fails.
install_packages() {
    local log status=0
    log=$(mktemp)
    case $(package_manager) in
        apt) apt_install "$@" ;;
        dnf) as_root dnf install -y "$@" ;;
        brew) brew install "$@" ;;
        *) false ;;
    esac >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then tail -n 5 "$log" >&2; fi
    rm -f "$log"
    return "$status"
}

apt_install() {
    as_root apt-get update || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}
