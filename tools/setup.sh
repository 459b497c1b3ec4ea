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

# The environment is made anew when the lock changes, the project installed again when its own metadata changes.
want=$({ cat requirements.lock tools/setup.sh; "$python" -V; } | sha256sum | cut -d' ' -f1)
own=$(sed -n '/^\[build-system\]/,/^\[tool\./p' pyproject.toml | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/.locked 2>/dev/null)" != "$want" ] || ! .venv/bin/python -c '' 2>/dev/null; then
  echo "Setting up .venv with $("$python" -V) (once, about a minute) ..."
  rm -rf .venv
  "$python" -m venv .venv
  .venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
  echo "$want" > .venv/.locked
fi
if [ "$(cat .venv/.installed 2>/dev/null)" != "$own" ]; then
  .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
  echo "$own" > .venv/.installed
fi
touch .venv/.installed
