#!/usr/bin/env bash
# The reference study: runs every experiment of conf/experiment/reference and conf/experiment/published
# and writes runs/reference and the answer in README.md. Interrupted, it goes on where it stopped.
# Usage: bash scripts/reference.sh [FOLDER OF MNIST]   (without one, MNIST is downloaded to data)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

prepare_environment
cd "$project"
mnist=${1:-data}
for file in conf/experiment/reference/*.yaml conf/experiment/published/*.yaml; do
  name=${file#conf/experiment/}
  echo "experiment=${name%.yaml}"
  root=()
  if grep -q "dataset: mnist" "$file"; then
    root=("dataset.root=$mnist")
  fi
  "$python" -m harness.train --multirun "experiment=${name%.yaml}" runs=runs/study tracking=none "${root[@]}"
done
"$python" scripts/answer.py --runs runs/study --out runs/reference --readme README.md \
  --made-by "bash scripts/reference.sh"
