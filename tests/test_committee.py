"""A committee of folds, networks of everybody, their pupil: who learns from whom, and errs how."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

# Ten people a training part, two whom it tests; folds differ by whom they test alone.
TRAIN = pd.Series(np.arange(30.0, 80.0, 5.0), index=[f"{n:02}" for n in range(10)])


def test_members_of_a_committee_lack_each_fifth_once_and_those_of_all_lack_nobody(
    recipe_names: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    main = recipe_names("committee")["main"]
    learnt: list[set[float]] = []

    def read_fold(_: Path, number: int) -> Any:
        tested = pd.Series([40.0, 60.0], index=[f"{number}a", f"{number}b"])
        return SimpleNamespace(
            train_nv=torch.as_tensor(TRAIN.to_numpy(copy=True))[:, None],
            train_ages=TRAIN,
            test_nv=torch.as_tensor(tested.to_numpy(copy=True))[:, None],
            test_ages=tested,
        )

    def start_ages(_: Any, __: Any, train_nv: torch.Tensor, ages_n: Any, asked_nv: Any) -> Any:
        told_off = ages_n - train_nv[:, 0].numpy()
        learnt.append(set(ages_n))
        # A year too old for each; who lacks two of ten a year more for each of them; and what it
        # was told wrongly.
        return asked_nv[:, 0].numpy() + 1 + (len(TRAIN) - len(ages_n)) + told_off.mean()

    monkeypatch.setitem(main.__globals__, "read_fold", read_fold)
    monkeypatch.setitem(main.__globals__, "start_ages", start_ages)
    monkeypatch.setattr(sys, "argv", ["committee.py", str(tmp_path)])
    main()
    everybody, committee, pupil = capsys.readouterr().out.splitlines()
    assert "1.00 (1.00 to 1.00)" in everybody
    assert "3.00 (3.00 to 3.00)   +2.00 (+2.00 to +2.00) years" in committee
    assert "2.00 (2.00 to 2.00)   +1.00 (+1.00 to +1.00) years" in pupil
    for fold in range(5):
        networks = learnt[11 * fold : 11 * fold + 11]
        assert all(seen == set(TRAIN) for seen in networks[:5])
        lacking = [set(TRAIN) - seen for seen in networks[5:10]]
        assert sorted(age for missing in lacking for age in missing) == sorted(TRAIN)
        assert networks[10] == {age + 1 for age in TRAIN}
