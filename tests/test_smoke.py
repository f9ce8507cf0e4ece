"""The smoke run looks at what was written, with a stand-in for the program."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "pipelines" / "smoke.sh"
RESULTS = ("splits.tsv", "predictions.tsv", "metrics.json", "evaluation.html")

# Each command tells its name; a cross-validation leaves what it was told to.
PROGRAM = """#!/bin/sh
echo "$1"
[ "$1" = cross-validate ] || exit 0
while [ "$1" != --out ]; do shift; done
mkdir -p "$2"
for name in $FILLED; do echo content >"$2/$name"; done
for name in $EMPTY; do : >"$2/$name"; done
"""


def _smoke(folder: Path, filled: list[str], empty: list[str]) -> "subprocess.CompletedProcess[str]":
    program = folder / "ermoe-ba"
    program.write_text(PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    told = {"ERMOE_BA": str(program), "FILLED": " ".join(filled), "EMPTY": " ".join(empty)}
    return subprocess.run(
        ["bash", SCRIPT, folder / "out"],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_that_left_all_results_goes_on(tmp_path: Path) -> None:
    done = _smoke(tmp_path, list(RESULTS), [])
    assert done.returncode == 0, done.stderr
    assert {"phantom", "cross-validate", "predict", "train"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_is_missing_or_empty_stops_it(
    name: str, is_there: bool, tmp_path: Path
) -> None:
    others = [other for other in RESULTS if other != name]
    done = _smoke(tmp_path, others, [name] if is_there else [])
    assert done.returncode == 1
    assert f"run/{name} must hold what the run found; it is missing or empty" in done.stderr
    assert "train" not in done.stdout.splitlines()
