#!/bin/sh
# Makes .venv with the locked packages: finds a Python >= 3.12 (PATH, then pyenv, else uv fetches one).
set -eu
cd "$(dirname "$0")/.."
mkdir -p .local

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; }

find_python() {
    for name in python3.13 python3.12 python3; do
        if path=$(command -v "$name") && fits "$path"; then echo "$path"; return; fi
    done
    for path in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do
        if fits "$path"; then echo "$path"; return; fi
    done
    echo 3.13 # a version instead of a path: uv downloads it
}

find_uv() {
    if command -v uv; then return; fi
    if [ ! -x .local/uv/bin/uv ]; then
        python3 -m venv .local/uv >&2
        .local/uv/bin/pip install --quiet 'uv>=0.13,<1' >&2
    fi
    echo "$PWD/.local/uv/bin/uv"
}

stamp=.venv/.locked
if [ -f "$stamp" ] && cmp -s "$stamp" requirements.lock; then exit 0; fi
uv=$(find_uv)
python=$(find_python)
echo "Setting up .venv ($python) ..." >&2
[ -x .venv/bin/python ] && fits .venv/bin/python || "$uv" venv --quiet --clear --python "$python" .venv
"$uv" pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock
cp requirements.lock "$stamp"
