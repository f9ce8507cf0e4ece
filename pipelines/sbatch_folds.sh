#!/usr/bin/env bash
# Purpose: the folds of a cross-validation as one SLURM array, after one job that prepares the scans for all.
# Command: bash pipelines/sbatch_folds.sh FOLDS RECIPE.toml --participants DATA/participants.tsv --out RUN \
#              [OPTIONS OF ermoe-ba cross-validate]
#          FOLDS is num_folds of the recipe. Partition or account: SBATCH_PARTITION=... before it, as
#          sbatch's manual lists them.
# Needs:   an environment with ermoe_ba on all nodes, active where this is called; data and RUN on a file
#          system that the nodes see. Call it again after any stop: what is finished is kept.
# Result:  as that of the command without SLURM; the task that ends last puts the folds together. Without
#          the first job each task of the array would prepare all scans by itself, in the same order.
#SBATCH --job-name=ermoe-ba-folds
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=ermoe-ba-folds_%j.log
set -euo pipefail

# What SLURM starts is this script again, with one of these two words before the arguments.
case "${1:-}" in
    prepare)
        export OMP_NUM_THREADS=1
        exec ermoe-ba cross-validate "${@:2}" --jobs "$SLURM_CPUS_PER_TASK" --prepare-only
        ;;
    fold)
        export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
        exec ermoe-ba cross-validate "${@:2}" --fold "${SLURM_ARRAY_TASK_ID:?runs as an array}"
        ;;
esac

folds="${1:-}"
if [ "$#" -lt 2 ] || ! [[ "$folds" =~ ^[1-9][0-9]*$ ]]; then
    printf '%s\n' "usage: bash $0 FOLDS RECIPE.toml [OPTIONS OF ermoe-ba cross-validate]" >&2
    exit 2
fi
shift
script="${BASH_SOURCE[0]}"
# A cluster's name may follow the number, after a semicolon.
first="$(sbatch --parsable "$script" prepare "$@")"
# If scans cannot be prepared, no fold shall wait for ever.
sbatch --dependency="afterok:${first%%;*}" --kill-on-invalid-dep=yes --array="0-$((folds - 1))" \
    "$script" fold "$@"
