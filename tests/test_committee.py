"""A committee of folds against a model of everybody: who learns from whom, and what it errs by."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

PIPELINES = Path(__file__).parents[1] / "pipelines"
# Ten people a training part, two whom it tests; folds differ by whom they test alone.
TRAIN = pd.Series(np.arange(30.0, 80.0, 5.0), index=[f"{n:02}" for n in range(10)])


def test_members_of_a_committee_lack_each_fifth_once_and_those_of_all_lack_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(PIPELINES))
    main = runpy.run_path(str(PIPELINES / "committee.py"))["main"]
    learnt: list[set[float]] = []

    def read_fold(_: Path, number: int) -> Any:
        tested = pd.Series([40.0, 60.0], index=[f"{number}a", f"{number}b"])
        return SimpleNamespace(
            train_nv=torch.as_tensor(TRAIN.to_numpy(copy=True)),
            train_ages=TRAIN,
            test_nv=torch.as_tensor(tested.to_numpy(copy=True)),
            test_ages=tested,
        )

    def start_ages(_: Any, __: Any, train_nv: torch.Tensor, ages_n: Any, test_nv: Any) -> Any:
        np.testing.assert_array_equal(train_nv, ages_n)
        learnt.append(set(ages_n))
        # Who lacks two of ten is a year too old for each.
        return test_nv.numpy() + (len(TRAIN) - len(ages_n))

    monkeypatch.setitem(main.__globals__, "read_fold", read_fold)
    monkeypatch.setitem(main.__globals__, "start_ages", start_ages)
    monkeypatch.setattr(sys, "argv", ["committee.py", str(tmp_path)])
    main()
    everybody, committee = capsys.readouterr().out.splitlines()
    assert "0.00 (0.00 to 0.00)" in everybody
    assert "2.00 (2.00 to 2.00)   +2.00 (+2.00 to +2.00) years" in committee
    for fold in range(5):
        whole, parts = np.split(np.array(learnt[10 * fold : 10 * fold + 10], dtype=object), 2)
        assert all(seen == set(TRAIN) for seen in whole)
        lacking = [set(TRAIN) - seen for seen in parts]
        assert sorted(age for missing in lacking for age in missing) == sorted(TRAIN)
