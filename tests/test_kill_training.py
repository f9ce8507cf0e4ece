"""A cross-validation that is killed in each of its phases goes on to equal bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_training.py")


@pytest.mark.slow
def test_a_killed_cross_validation_goes_on_to_equal_bytes(tmp_path: Path) -> None:
    """Twenty runs, 200 kills: python tests/kill_training.py 20 7 FOLDER."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "1", "1", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cross-validate: killed 10 times in 1 runs, ")
