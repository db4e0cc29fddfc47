# Sourced by the scripts beside it: finds a Python, makes .venv, and installs one set of extras into it.
# Nothing is installed twice: a stamp in .venv holds the checksum of pyproject.toml at the last installation.
# Messages go to standard error, so that a script's own output stays clean.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv="$root/.venv"
# Debian keeps mosquitto in /usr/sbin, which is not on every user's path.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*" >&2; }

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

# apt_install PACKAGE...: install Debian packages where this user may.
apt_install() {
    say "Installing $* (apt-get)"
    apt-get update -qq >&2 &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Debian keeps the server's programs off every path, in a folder for each version.
has_postgresql() {
    command -v initdb >/dev/null 2>&1 && return 0
    for folder in /usr/lib/postgresql/*/bin; do
        [ -x "$folder/initdb" ] && return 0
    done
    return 1
}

is_python() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in "${HEMOLINK_PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        if [ -n "$candidate" ] && is_python "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

make_venv() {
    if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        return 0
    fi
    if ! python=$(find_python); then
        if may_install && apt_install python3 python3-venv && python=$(find_python); then
            :
        else
            say "Hemolink needs Python 3.11 or newer, and none was found."
            say "Install it (Debian 12 or newer: apt-get install python3 python3-venv), or name one in HEMOLINK_PYTHON."
            return 1
        fi
    fi
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        if ! may_install || ! apt_install python3-venv; then
            say "$python cannot make a virtual environment: apt-get install python3-venv"
            return 1
        fi
    fi
    say "Making a virtual environment in $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" || return 1
    # The pip that comes with Python 3.11 is too old for some of what follows.
    "$venv/bin/python" -m pip install --quiet --upgrade pip >&2
}

# install_extra NAME [SUPERSET...]: install the project with one extra, unless it, or a superset of it, is there
# already for this very pyproject.toml.
install_extra() {
    extra=$1
    (
        # One script at a time; the lock lies in the temporary folder and vanishes with the process.
        if command -v flock >/dev/null 2>&1; then
            exec 9>"${TMPDIR:-/tmp}/hemolink-venv-$(printf '%s' "$root" | cksum | cut -d' ' -f1).lock"
            flock 9
        fi
        wanted="$root $(cksum <"$root/pyproject.toml")"
        make_venv || exit 1
        for name in "$@"; do
            if [ "$(cat "$venv/.installed-$name" 2>/dev/null)" = "$wanted" ]; then
                exit 0
            fi
        done
        say "Installing what '$extra' needs into $venv (the first time this takes a minute or two)"
        "$venv/bin/python" -m pip install --quiet --editable "$root[$extra]" >&2 || exit 1
        printf '%s' "$wanted" >"$venv/.installed-$extra"
    ) || {
        say "The installation failed; the message above says why. Mend that and run the same command again."
        say "(Another Python can be named in HEMOLINK_PYTHON.)"
        exit 1
    }
}
