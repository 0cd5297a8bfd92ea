#!/bin/sh
# The ablations of the P-Tuning v2 paper (figures 3 and 4, appendix B) on the MiniLM encoder, few examples and short runs.
# Finished runs are kept. Run it from the root of the repository: benchmarks/studies/ablations.sh [JOBS]
set -eu
export FOREWORD_DATA="${FOREWORD_DATA:-../shared/data}"
vary() { # RECIPE EXAMPLES EPOCHS FOLDER, and what to vary
  recipe=$1 examples=$2 epochs=$3 folder=$4
  shift 4
  foreword ablate "$recipe" --jobs "$jobs" --output "benchmarks/results/ablations/$folder" \
    --set "data.train_sample=$examples" --set "training.epochs=$epochs" --set training.precision=bf16 \
    --set training.batch_size=16 --set training.backbone_dropout=0.1 --set training.head_learning_rate=5e-3 "$@"
}
jobs=${1:-2}

vary conll04-ptuning-v2 450 8 conll04 --set task.layers=all --set task.decoding=greedy --vary prompt-length --values 2,8,20,64
vary conll04-ptuning-v2 450 8 conll04 --set task.layers=all --set task.decoding=greedy --vary depth --vary reparameterization
vary sst2-ptuning-v2 1200 4 sst2 --vary prompt-length --values 2,8,20,64
vary sst2-ptuning-v2 1200 4 sst2 --vary depth --vary reparameterization
