"""Killed at random operations on files: what stands is whole, and going on gives equal bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_points.py")
POINTS = 4


def _run(command: str, what: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, command, what, "1", folder],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "preprocess"])
def test_a_killed_run_is_gone_on_with_to_equal_bytes(command: str, tmp_path: Path) -> None:
    """Fifty points each: python tests/kill_points.py predict 50 7 FOLDER."""
    said = _run(command, str(POINTS), tmp_path / "run")
    assert said.startswith(f"{command}: killed at {POINTS} of ")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "preprocess"])
def test_two_processes_give_the_bytes_of_one(command: str, tmp_path: Path) -> None:
    """A damaged scan among them, and the order of rows, make no difference either."""
    assert "equal bytes" in _run(command, "jobs", tmp_path / "run")
