#!/bin/sh
# One file sets everything up on a fresh Debian or Ubuntu with Python 3.11 or newer; no compiler is needed.
#
#   sh setup.sh demo   install into .venv, segment a photograph, say where the overlay is
#   sh setup.sh test   install into .venv with the test tools, run the tests
#   sh setup.sh lint   the same, then run the checks that must pass before a commit
#
# VENV names another environment, PYTHON another interpreter. Versions are those of constraints.txt.
set -eu
cd "$(dirname "$0")"
venv=${VENV:-.venv}
python=${PYTHON:-python3}

fail() {
    echo "setup.sh: $1" >&2
    exit 1
}

environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "spx needs Python 3.11 or newer; set PYTHON"
    [ -x "$venv/bin/pip" ] && return
    # Debian keeps the part of Python that makes environments in a package of its own.
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        command -v apt-get >/dev/null || fail "this Python cannot make environments: install its venv package"
        [ "$(id -u)" = 0 ] && sudo= || sudo=sudo
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        $sudo apt-get update -q && $sudo apt-get install -qy "$package"
    fi
    "$python" -m venv "$venv"
}

install() {
    environment
    # An unchanged environment is not touched again, so a second run needs no network.
    stamp="$venv/installed $*"
    if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ constraints.txt -nt "$stamp" ]; then
        "$venv/bin/pip" install -q -c constraints.txt -e . "$@"
        touch "$stamp"
    fi
}

case "${1:-}" in
demo)
    install
    "$venv/bin/spx" segment examples/coffee.jpg --method sin -k 400 -o demo/coffee.labels.png --overlay boundaries --overwrite
    echo "Look at demo/coffee.overlay.png"
    ;;
test)
    install hypothesis pytest
    shift
    "$venv/bin/python" -m pytest -q "$@"
    ;;
lint)
    install hypothesis mypy pytest ruff scipy-stubs
    "$venv/bin/ruff" format --check .
    "$venv/bin/ruff" check .
    "$venv/bin/mypy"
    ;;
*)
    fail "say 'sh setup.sh demo', 'sh setup.sh test' or 'sh setup.sh lint'"
    ;;
esac
