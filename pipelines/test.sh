#!/usr/bin/env bash
# Purpose: everything that must hold before a change is accepted.
# Command: bash pipelines/test.sh [ARGUMENTS FOR PYTEST]
# Result:  exit code 0, or that of the first step that fails.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=_setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

set_up test
cd -- "$REPO_ROOT"

say "ruff check"
"$VENV_PYTHON" -m ruff check .
say "ruff format"
"$VENV_PYTHON" -m ruff format --check .
say "mypy"
"$VENV_PYTHON" -m mypy
say "import layers"
"$VENV/bin/lint-imports" --no-logo
say "pytest"
if [ "$#" -eq 0 ]; then
    "$VENV_PYTHON" -m pytest --cov
    say "from simulated heads to a model"
    folder="$(mktemp -d)"
    trap 'rm -rf -- "$folder"' EXIT
    ERMOE_BA="$VENV/bin/ermoe-ba" bash pipelines/smoke.sh "$folder/smoke"
else
    # A chosen part of the tests cannot reach the coverage of all.
    "$VENV_PYTHON" -m pytest --cov --cov-fail-under=0 "$@"
fi
