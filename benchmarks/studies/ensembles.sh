#!/bin/sh
# Trains the study `ensembles.toml` and scores five prompts together: benchmarks/studies/ensembles.sh [JOBS]
# Finished runs are kept. Run it from the root of the repository.
set -eu
export FOREWORD_DATA="${FOREWORD_DATA:-../shared/data}"
results=benchmarks/results/ensembles
foreword compare benchmarks/studies/ensembles.toml --jobs "${1:-2}" --keep --output "$results"
score() { # DATA FILE
  members=$(for cell in "$results/cells/$1".ptuning-v2.seed-*.json; do
    key=${cell##*-}
    echo "$results/runs/${key%.json}"
  done)
  for vote in mean majority; do
    # shellcheck disable=SC2086  # one word per member
    foreword evaluate $members --data "$FOREWORD_DATA/$2" --vote "$vote" --json > "$results/$1-$vote.json"
  done
}
score conll04 conll04/dev.txt
score sst2 sst2/dev.tsv
