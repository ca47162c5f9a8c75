#!/usr/bin/env bash
# Runs the tests, two at a time: `bash scripts/test.sh [pytest arguments]`, for example
# `bash scripts/test.sh -m slow` or `bash scripts/test.sh tests/theory`. With `-n 0` they run one by
# one in one process, as a debugger needs it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

prepare_environment test
cd "$project"
# Tests start many processes, each of which would otherwise compile the project anew.
unset PYTHONDONTWRITEBYTECODE
# Two tests share the cores: a thread that waits must not keep another test's thread from running.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
exec "$python" -m pytest -n 2 --dist worksteal "$@"
