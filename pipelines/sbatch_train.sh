#!/usr/bin/env bash
# Purpose: training on several nodes of a SLURM cluster: torchrun on each, one process a GPU.
# Command: sbatch --nodes=2 pipelines/sbatch_train.sh cross-validate RECIPE.toml \
#              --participants DATA/participants.tsv --out RUN
#          PROCESSES=4 before it: so many processes a node (GPUs of a node; on CPU, 1 is best).
# Needs:   an environment with ermoe_ba on all nodes, active where sbatch is called; data and RUN on a
#          file system that all nodes see. Submit it again after any stop, with as many processes: a
#          stage goes on from its snapshot.
# Result:  as that of the command without SLURM. To share folds among jobs instead, which needs no
#          exchange between nodes: pipelines/sbatch_folds.sh.
#SBATCH --job-name=ermoe-ba-train
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=ermoe-ba-train_%j.log
set -euo pipefail

[ "$#" -ge 1 ] || { printf '%s\n' "usage: sbatch --nodes=N $0 COMMAND [OPTIONS OF ermoe-ba]" >&2; exit 2; }
processes="${PROCESSES:-1}"
# The first node is where all meet; the port follows from the job, so that jobs do not meet.
head="$(scontrol show hostnames "${SLURM_JOB_NODELIST:?runs under sbatch}" | head -n 1)"
port=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / processes))

srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$processes" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$head:$port" \
    -m ermoe_ba.cli.main "$@"
