#!/usr/bin/env bash
# environment.sh DIR: makes the virtual environment in DIR, exactly as requirements.txt pins it.
set -euo pipefail
venv=$1
python=${PYTHON:-python3}

"$python" - <<'CHECK' || { echo "headrace needs Python 3.11 or 3.12: apt-get install python3 (Debian 12), or set PYTHON=/path/to/python3.11" >&2; exit 1; }
import sys
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
CHECK
"$python" -c 'import venv, ensurepip' 2>/dev/null || {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq python3-venv
  else
    echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 1
  fi
}
echo "making $venv (about 20 s and 6 GB: torch brings CUDA with it)" >&2
[ -x "$venv-uv/bin/uv" ] || { "$python" -m venv "$venv-uv" && "$venv-uv/bin/pip" install -q "uv>=0.9"; }
[ -x "$venv/bin/python" ] || "$python" -m venv --without-pip "$venv"
UV_LINK_MODE=${UV_LINK_MODE:-hardlink} "$venv-uv/bin/uv" pip install -q --python "$venv/bin/python" --require-hashes -r requirements.txt
"$venv-uv/bin/uv" pip install -q --python "$venv/bin/python" --no-deps -e .
