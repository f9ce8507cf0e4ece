#!/usr/bin/env bash
# Purpose: brain ages of a cohort as one SLURM array, without snakemake.
# Command: sbatch --array=0-"$(($(python pipelines/shards.py count SCANS.tsv --size 50) - 1))" \
#              pipelines/sbatch_predict.sh SCANS.tsv RESULTS [OPTIONS OF ermoe-ba predict]
#          and, when all have ended:
#          python pipelines/shards.py join RESULTS/shards --count COUNT --out RESULTS/predictions.tsv
# Needs:   an environment with ermoe_ba on all nodes, active where sbatch is called; the checkout on
#          a file system that the nodes see. Submit it again after any stop: finished scans are kept.
# Result:  as that of pipelines/Snakefile, with the same shards.
#SBATCH --job-name=ermoe-ba
#SBATCH --cpus-per-task=1
# As in pipelines/Snakefile, for shards of 50 scans.
#SBATCH --mem=2500M
#SBATCH --time=00:55:00
#SBATCH --output=ermoe-ba_%A_%a.log
set -euo pipefail

# As counted for --array above.
SIZE=50

[ "$#" -ge 2 ] || { printf '%s\n' "usage: sbatch --array=... $0 SCANS.tsv RESULTS [OPTIONS]" >&2; exit 2; }
scans="$1" results="$2"
shift 2
# SLURM runs a copy of this script; the one beside shards.py is where the job was submitted from.
tool="${SLURM_SUBMIT_DIR:?runs under sbatch}/pipelines/shards.py"
folder="$results/shards/$(printf '%05d' "${SLURM_ARRAY_TASK_ID:?give sbatch --array}")"

python "$tool" cut "$scans" --size "$SIZE" --number "$SLURM_ARRAY_TASK_ID" --out "$folder/scans.tsv"
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
# Exit code 1: some scans failed, and the table says why. The array need not fail for that.
ermoe-ba predict "$folder/scans.tsv" --out "$folder" --resume "$@" || [ "$?" -eq 1 ]
