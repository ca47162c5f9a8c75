# Sourced by the other scripts. Makes .venv once and installs the project into it, showing progress.
# Usage: prepare_environment [EXTRA]   (EXTRA: a name from pyproject.toml's optional dependencies)

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$project/.venv/bin/python

find_python() {
  local candidate
  local usable='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
  for candidate in ${PYTHON:-} python3.12 python3.11 python3 python3.13; do
    if command -v "$candidate" >/dev/null && "$candidate" -c "$usable" 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11 or newer with venv is needed; install it, or name one with PYTHON=/path/to/python" >&2
  return 2
}

prepare_environment() {
  local extra=${1:-} wanted stamp
  wanted=$(cat "$project/pyproject.toml" "$project/setup.py" "$project/constraints.txt" | cksum)
  # An environment with the test extra serves the others too.
  for stamp in "$project/.venv/installed-$extra" "$project/.venv/installed-test"; do
    if [ -x "$python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
      return
    fi
  done
  if [ ! -x "$python" ]; then
    local base
    base=$(find_python) || return
    echo "Making an environment in .venv with $("$base" --version)"
    "$base" -m venv "$project/.venv" || return
  fi
  echo "Installing PyTorch, MLflow and the rest into .venv: about 5 GB on disk, a few minutes the first time"
  (
    cd "$project" &&
      "$python" -m pip install --disable-pip-version-check \
        --constraint constraints.txt --editable ".${extra:+[$extra]}"
  ) || return
  echo "$wanted" >"$project/.venv/installed-$extra"
}
