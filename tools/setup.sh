#!/usr/bin/env bash
# Makes .venv with everything in requirements.lock (hashes checked) and the project itself.
set -euo pipefail
cd "$(dirname "$0")/.."

fits() { "$1" -c 'import sys, ssl, venv; sys.exit(sys.version_info[:2] < (3, 12))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.14 python3.13 python3.12 python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 && fits "$candidate" && { command -v "$candidate"; return; }
  done
  if command -v pyenv >/dev/null 2>&1; then
    for candidate in "$(pyenv root)"/versions/3.1[2-9]*/bin/python3; do
      [ -x "$candidate" ] && fits "$candidate" && found=$candidate
    done
    [ -n "${found:-}" ] && { echo "$found"; return; }
  fi
  return 1
}

python=$(find_python) || {
  echo "flowwarden needs Python 3.12 or newer with the venv and ssl modules; none was found." >&2
  echo "Install one (Debian: apt-get install python3-venv; or pyenv install 3.13) or set PYTHON=/path/to/python3." >&2
  exit 1
}

want=$({ cat requirements.lock pyproject.toml tools/setup.sh; "$python" -V; } | sha256sum | cut -d' ' -f1)
if [ -f .venv/.installed ] && [ "$(cat .venv/.installed)" = "$want" ] && .venv/bin/python -c '' 2>/dev/null; then
  touch .venv/.installed
  exit 0
fi

echo "Setting up .venv with $("$python" -V) (once) ..."
rm -rf .venv
"$python" -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
echo "$want" > .venv/.installed
