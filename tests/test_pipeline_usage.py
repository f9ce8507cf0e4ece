"""Recipes that are called without what they need answer with their usage."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINES = Path(__file__).parents[1] / "pipelines"


@pytest.mark.parametrize("script", sorted(PIPELINES.glob("*.py")), ids=lambda path: path.stem)
def test_no_recipe_reads_an_argument_that_may_not_be_there(script: Path) -> None:
    assert not re.search(r"sys\.argv\[\d+\]", script.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["build_consensus_atlas", "fit_phantom_norms"])
def test_without_arguments_the_usage_is_told(name: str) -> None:
    command = [sys.executable, str(PIPELINES / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: {name}.py")
    assert "the following arguments are required" in done.stderr
