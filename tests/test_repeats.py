"""Repeats of a cross-validation: each under its own number, those that are not whole left out."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUN = """
[run]
name = "tiny"
num_folds = 2
num_repeats = 4
num_starts = 1
seed = 1
coverage = 0.9
t1w = "{participant_id}.nii.gz"
labels = "{participant_id}_dseg.nii.gz"
label_table = "labels.tsv"
data = "synthetic"
licence = "none"
"""
# Nobody is in the forties; the last two are in their eighties.
AGES = (25.0, 31.0, 52.0, 64.0, 81.0, 89.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Of four repeats, the second lacks a fold; in repeat r everybody comes out r + 1 years old."""
    (tmp_path / "recipe.json").write_text(json.dumps({"text": RUN, "data_hash": "0"}), "utf-8")
    for repeat in range(4):
        for fold in range(2):
            if (repeat, fold) == (1, 1):
                continue
            prefix = f"repeat-{repeat}_" if repeat else ""
            rows = "".join(
                f"{n:02}\tn/a\t{n:02}\t{fold}\t{age}\t{age + repeat + 1}\n"
                for n, age in enumerate(AGES)
                if (n + repeat) % 2 == fold
            )
            (tmp_path / f"{prefix}fold-{fold}_predictions.tsv").write_text(
                "participant_id\tsession_id\tscan\tfold\tchronological_age\tpredicted_age\n" + rows,
                encoding="utf-8",
            )
    return tmp_path


@pytest.fixture
def told(
    run: Path,
    recipe_names: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., dict[str, str]]:
    """Call the recipe; give what it prints of each row, by the row's name."""

    def call(*arguments: str) -> dict[str, str]:
        monkeypatch.setattr(sys, "argv", ["repeats.py", str(run), *arguments])
        assert recipe_names("repeats")["main"]() == 0
        lines = capsys.readouterr().out.splitlines()
        return {line[:16].strip(): line[17:] for line in lines}

    return call


def test_repeats_after_one_that_is_not_finished_count_under_their_own_numbers(
    told: Callable[..., dict[str, str]],
) -> None:
    """Errors of 1, 3 and 4 years: 8 / 3 in the mean, and of each person's mean age the same."""
    found = told()
    assert list(found) == ["", "repeat 0", "repeat 2", "repeat 3", "all rows", "means of ages"]
    assert found[""].endswith("; 3 repeats")
    for name, years in {
        "repeat 0": 1.0,
        "repeat 2": 3.0,
        "repeat 3": 4.0,
        "all rows": 8 / 3,
        "means of ages": 8 / 3,
    }.items():
        assert found[name].startswith(f"{years:.2f} ({years:.2f} to {years:.2f})  "), name


def test_the_first_repeats_alone_are_those_of_the_lowest_numbers(
    told: Callable[..., dict[str, str]],
) -> None:
    found = told("--repeats", "3")
    assert list(found) == ["", "repeat 0", "repeat 2", "all rows", "means of ages"]


def test_every_decade_that_anybody_is_in_is_told(
    told: Callable[..., dict[str, str]],
) -> None:
    found = told()
    assert found["repeat 2"].endswith("  20s 3.0 30s 3.0 50s 3.0 60s 3.0 80s 3.0")
