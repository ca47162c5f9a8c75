#!/usr/bin/env bash
# The main job on a fresh machine: installs, sweeps 48 cells with 3 seeds each over handwritten
# digits, and writes the report. A second call skips what is done. Further arguments go to the sweep,
# for example: `bash scripts/quickstart.sh seeds=5`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

prepare_environment
cd "$project"
echo "Sweeping activation, initializer, normalization and depth over handwritten digits"
"$python" -m harness.train --multirun experiment=quickstart "$@"
report=$("$python" scripts/report.py --runs runs --quiet)
echo
echo "Report:      $report"
echo "MLflow UI:   .venv/bin/mlflow ui --backend-store-uri sqlite:///runs/mlflow.db"
echo "Next sweep:  .venv/bin/python -m harness.train --multirun activation=selu,gelu" \
  "initializer=lecun_normal depth=8,16 seeds=5"
