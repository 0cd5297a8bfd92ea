#!/bin/sh
# The ablations of the P-Tuning v2 paper (figures 3 and 4, appendix B) on the MiniLM encoder, part of the data and short runs.
# Finished runs are kept. Run it from the root of the repository: benchmarks/studies/ablations.sh [JOBS]
set -eu
export FOREWORD_DATA="${FOREWORD_DATA:-../shared/data}"
vary() { # RECIPE EXAMPLES EPOCHS RATE FOLDER, and what to vary
  recipe=$1 examples=$2 epochs=$3 rate=$4 folder=$5
  shift 5
  foreword ablate "$recipe" --jobs "$jobs" --seeds 11,12,13 --output "benchmarks/results/ablations/$folder" \
    --set "data.train_sample=$examples" --set "training.epochs=$epochs" --set "training.learning_rate=$rate" \
    --set method.init_scale=1.0 --set method.dropout=0.0 --set training.precision=bf16 \
    --set training.batch_size=16 --set training.backbone_dropout=0.1 --set training.head_learning_rate=5e-3 "$@"
}
jobs=${1:-2}

vary conll04-ptuning-v2 770 12 1e-1 conll04 --vary prompt-length --values 2,8,20,64
vary conll04-ptuning-v2 770 12 1e-1 conll04 --vary depth --vary reparameterization
vary sst2-ptuning-v2 3000 6 3e-2 sst2 --vary prompt-length --values 2,8,20,64
vary sst2-ptuning-v2 3000 6 3e-2 sst2 --vary depth --vary reparameterization
