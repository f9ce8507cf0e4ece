# shellcheck shell=bash
# Sourced by the scripts beside it: the one place that makes and fills the environment .venv.
# Plain enough for bash 3.2, which is what macOS brings.

# CDPATH would make cd print, and go, where it likes.
REPO_ROOT="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$REPO_ROOT/.venv"
VENV_PYTHON="$VENV/bin/python"

say() { printf '%s\n' "== $*"; }

stop() {
    printf '%s\n' "error: $*" >&2
    exit 1
}

# The upper end is where the libraries stop shipping ready-built files.
is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1
}

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        # Whoever names a Python wants that one, not another in its stead.
        is_supported "$PYTHON" || stop "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13."
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if is_supported "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    stop "no Python 3.11, 3.12 or 3.13 found; install one, or name it: PYTHON=/path/to/python3 bash $0"
}

# Scripts in a virtual environment hold its path: one that was moved or copied along with its
# checkout is as broken as one whose Python has gone.
venv_is_sound() {
    [ "$(cat "$VENV/.made-in" 2>/dev/null)" = "$REPO_ROOT" ] \
        && is_supported "$VENV_PYTHON" \
        && "$VENV_PYTHON" -c 'import pip' >/dev/null 2>&1
}

make_venv() {
    local python
    python="$(find_python)"
    # Debian and Ubuntu part these from Python itself.
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 \
        || stop "$python lacks venv or ensurepip; install them (Debian, Ubuntu: apt-get install python3-venv)."
    say "making the environment $VENV"
    rm -rf -- "$VENV"
    "$python" -m venv "$VENV" || stop "the environment $VENV could not be made (see above)."
    # Last, so that a run broken off half-way leaves an environment that counts as unsound.
    printf '%s\n' "$REPO_ROOT" >"$VENV/.made-in"
}

# What the installed set follows from. Python computes it: sha256sum is not everywhere.
fingerprint() {
    "$VENV_PYTHON" - "$REPO_ROOT/pyproject.toml" "$REPO_ROOT/constraints.txt" <<'PYTHON'
import hashlib, pathlib, sys
print(hashlib.sha256(b"\0".join(pathlib.Path(p).read_bytes() for p in sys.argv[1:])).hexdigest())
PYTHON
}

# set_up [EXTRA]: leave an environment that holds the package, editable, and the extra's tools.
set_up() {
    local extra="${1:-}" wanted stamp
    venv_is_sound || make_venv
    wanted="$(fingerprint)"
    # Every extra includes the plain package: where none is asked for, any will do.
    for stamp in "$VENV"/.installed-*; do
        if [ -n "$extra" ] && [ "$stamp" != "$VENV/.installed-$extra" ]; then
            continue
        fi
        if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
            return
        fi
    done
    say "installing ermoe_ba and its libraries (the first time takes minutes: PyTorch is large)"
    # Twice quiet: errors only. The folder is entered because a path with spaces or brackets is
    # no requirement that pip can read.
    (
        cd -- "$REPO_ROOT" && "$VENV_PYTHON" -m pip install --quiet --quiet --disable-pip-version-check \
            -c constraints.txt -e ".${extra:+[$extra]}"
    ) || stop "the installation failed (see above); the network must be reachable the first time."
    printf '%s\n' "$wanted" >"$VENV/.installed-${extra:-plain}"
}
