#!/usr/bin/env bash
# Purpose: brain ages of a cohort as one SLURM array, without snakemake.
# Command: count="$(python pipelines/shards.py cut SCANS.tsv --size 50 --out RESULTS/shards)"
#          sbatch --array=0-"$((count - 1))" pipelines/sbatch_predict.sh RESULTS \
#              [OPTIONS OF ermoe-ba predict]
#          and, when all have ended:
#          python pipelines/shards.py join RESULTS/shards --count "$count" --out RESULTS/predictions.tsv
# Needs:   an environment with ermoe_ba on all nodes, active where sbatch is called; RESULTS on
#          a file system that the nodes see. Submit it again after any stop: finished scans are kept.
# Result:  as that of pipelines/Snakefile, with the same shards.
#SBATCH --job-name=ermoe-ba
#SBATCH --cpus-per-task=1
# As in pipelines/Snakefile, for shards of 50 scans.
#SBATCH --mem=2500M
#SBATCH --time=00:55:00
#SBATCH --output=ermoe-ba_%A_%a.log
set -euo pipefail

[ "$#" -ge 1 ] || { printf '%s\n' "usage: sbatch --array=... $0 RESULTS [OPTIONS]" >&2; exit 2; }
results="$1"
shift
folder="$results/shards/$(printf '%05d' "${SLURM_ARRAY_TASK_ID:?give sbatch --array}")"

export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
# Exit code 1: some scans failed, and the table says why. The array need not fail for that.
ermoe-ba predict "$folder/scans.tsv" --out "$folder" --resume "$@" || [ "$?" -eq 1 ]
