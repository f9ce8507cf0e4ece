#!/usr/bin/env bash
# Purpose: the whole path from nothing to a trained and tuned model and a predicted scan, on simulated heads.
# Command: bash pipelines/smoke.sh [FOLDER]   (smoke_output/ in the checkout by default; must not exist)
# Result:  FOLDER/run with splits.tsv, predictions.tsv, metrics.json, evaluation.html and the members of both
#          folds; exit code 1 where one of these four files is missing or empty.
# Time:    231 processor seconds on two shared x86-64 cores, of which 24 heads take about 120 to prepare.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=_setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

[ "$#" -le 1 ] || stop "one folder at most: bash pipelines/smoke.sh [FOLDER]"
out="${1:-$REPO_ROOT/smoke_output}"
[ ! -e "$out" ] || stop "$out exists; remove it, or name another folder."

# Whoever has an environment with the package names its program and needs no other.
if [ -z "${ERMOE_BA:-}" ]; then
    set_up bids
    ERMOE_BA="$VENV/bin/ermoe-ba"
fi
say "24 simulated heads"
"$ERMOE_BA" phantom --out "$out/phantom" --n 24 --jobs 2
say "two folds"
"$ERMOE_BA" cross-validate "$REPO_ROOT/pipelines/smoke.toml" --jobs 2 \
    --participants "$out/phantom/participants.tsv" --out "$out/run"
for name in splits.tsv predictions.tsv metrics.json evaluation.html; do
    [ -s "$out/run/$name" ] || stop "$out/run/$name must hold what the run found; it is missing or empty."
done
# Neither needs the other, and each keeps one core busy.
say "one scan, by the models of both folds; beside it one final model"
"$ERMOE_BA" predict "$out/phantom/sub-000001/anat/sub-000001_T1w.nii.gz" --model "$out/run" \
    --out "$out/predicted" &
prediction=$!
trap 'kill "$prediction" 2>/dev/null || true' EXIT
"$ERMOE_BA" train "$REPO_ROOT/pipelines/smoke.toml" --run "$out/run" --prepared "$out/run/prepared" \
    --participants "$out/phantom/participants.tsv" --out "$out/final"
wait "$prediction"
trap - EXIT
say "done: $out"
