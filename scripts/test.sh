#!/usr/bin/env bash
# Runs the tests: `bash scripts/test.sh [pytest arguments]`, for example `bash scripts/test.sh -m slow` or `tests/theory`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

prepare_environment test
cd "$project"
exec "$python" -m pytest "$@"
