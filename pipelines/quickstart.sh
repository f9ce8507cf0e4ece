#!/usr/bin/env bash
# Purpose: the brain age of one scan, from a fresh checkout.
# Command: bash pipelines/quickstart.sh [SCAN.nii.gz]   (without one: the sample head)
# Result:  quickstart_output/ in the checkout; a second run replaces it.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=_setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

[ "$#" -le 1 ] || stop "one scan at most: bash pipelines/quickstart.sh [SCAN.nii.gz]"
scan="${1:-$REPO_ROOT/ermoe_ba/sample/sub-colin27_T1w.nii.gz}"
# Asked before the installation, not minutes later.
[ -f "$scan" ] || stop "no such file: $scan"

set_up
say "predicting from $scan"
"$VENV/bin/ermoe-ba" predict "$scan" --out "$REPO_ROOT/quickstart_output" --overwrite
say "results: $REPO_ROOT/quickstart_output"
