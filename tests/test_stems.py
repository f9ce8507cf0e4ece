"""Runs of the same folds, alone and together: hand-worked errors, and other folds refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ermoe_ba.tables import write_table

# Of few people no interval is given.
TIMES = 4


def _run(folder: Path, ages: list[float], folds: list[int]) -> str:
    names = [f"p{number:02}" for number in range(len(ages) * TIMES)]
    table = pd.DataFrame(
        {
            "participant_id": names,
            "session_id": None,
            "scan": names,
            "fold": folds * TIMES,
            "chronological_age": [30.0, 40.0, 50.0] * TIMES,
            "predicted_age": ages * TIMES,
        }
    )
    folder.mkdir()
    # The order of rows is nobody's promise.
    write_table(folder / "predictions.tsv", table[:: -1 if folder.name == "other" else 1])
    return str(folder)


def test_errors_that_point_apart_cancel_in_the_mean(
    recipe_names: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main = recipe_names("stems")["main"]
    # 4 years off each; 2 off to the other side, but for the last, who is 4 off to the same.
    run = _run(tmp_path / "run", [34.0, 36.0, 54.0], [0, 0, 1])
    other = _run(tmp_path / "other", [28.0, 42.0, 54.0], [0, 0, 1])
    monkeypatch.setattr(sys, "argv", ["stems.py", run, other])
    main()
    alone, apart, together = capsys.readouterr().out.splitlines()
    assert alone.split()[:2] == ["run", "4.00"]
    assert apart.split()[:2] == ["other", "2.67"]
    assert "-1.33 (" in apart
    # Means 31, 39 and 54: 1, 1 and 4 years off.
    assert together.split()[:4] == ["mean", "of", "all", "2.00"]
    assert "-2.00 (" in together
    wrong = _run(tmp_path / "wrong", [28.0, 42.0, 54.0], [0, 1, 1])
    monkeypatch.setattr(sys, "argv", ["stems.py", run, wrong])
    with pytest.raises(SystemExit):
        main()
    assert f"{wrong} must hold the scans and folds of {run}" in capsys.readouterr().err
