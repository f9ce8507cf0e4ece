"""What would still lower an error: each lever by hand, and what learns, of other people alone."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

AGES = {f"{n:02}": 20.0 + 5 * n for n in range(8)}
# The last two are tested in fold 1.
FOLDS = {name: int(name >= "06") for name in AGES}
# By how many years each fold's two members are off: 2 in the mean of either.
OFF = {0: (1.0, 3.0), 1: (-2.0, 6.0)}


class _Volumes:
    """A regression that is 3 years off, of people whom it did not learn from."""

    def fit(self, volumes: Any, ages: Any) -> "_Volumes":
        np.testing.assert_array_equal(volumes[:, 0], ages)
        self.seen = set(ages)
        return self

    def predict(self, volumes: Any) -> Any:
        assert not self.seen & set(volumes[:, 0])
        assert len(self.seen) + len(volumes) == len(AGES)
        return volumes[:, 0] + 3.0


@pytest.fixture
def found(
    recipe_names: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> dict[str, tuple[str, str]]:
    """Error and difference, by lever: descriptions are ages, of mirrored scans 4 years less."""
    (tmp_path / "kept").mkdir()
    splits = "".join(f"{name}\t{fold}\n" for name, fold in FOLDS.items())
    (tmp_path / "splits.tsv").write_text(f"participant_id\tfold\n{splits}", encoding="utf-8")
    for fold in OFF:
        tested = [[AGES[name]] for name in AGES if FOLDS[name] == fold]
        path = tmp_path / "kept" / f"fold-{fold}_described.safetensors"
        save_file({"test": torch.tensor(tested)}, path)
    scans = [SimpleNamespace(participant_id=i, chronological_age=age) for i, age in AGES.items()]

    def load_fold(_: Path, fold: int) -> Any:
        def member(years: float) -> Any:
            return SimpleNamespace(
                describe=fold, read_age=lambda ages: SimpleNamespace(age_b=ages + years)
            )

        return SimpleNamespace(members=[member(years) for years in OFF[fold]])

    def changed_copies(fold: int, prepared: list[Any], *_: object) -> torch.Tensor:
        assert {FOLDS[scan.participant_id] for scan in prepared} == {fold}
        return torch.tensor([[scan.chronological_age - 4.0] for scan in prepared])

    run = SimpleNamespace(
        t1w="", labels="", num_folds=2, num_starts=2, tissues=lambda _: {1: "ventricles"}
    )
    levers = recipe_names("levers")
    for name, value in {
        "load_fold": load_fold,
        "changed_copies": changed_copies,
        "RunFolder": lambda _: SimpleNamespace(settings=lambda: run),
        "read_study": lambda *_: SimpleNamespace(scans=scans, root=tmp_path),
        "read_card": lambda _: SimpleNamespace(
            preprocess=None, model=SimpleNamespace(age_bounds=())
        ),
        "Preprocessor": lambda _: None,
        "PreparedCohort": lambda *_: SimpleNamespace(read=lambda scan: scan),
        "label_volumes": lambda *_: np.array(list(AGES.values()))[:, None],
        "make_regression": lambda *_: _Volumes(),
    }.items():
        monkeypatch.setitem(levers, name, value)
    monkeypatch.setattr(sys, "argv", ["levers.py", str(tmp_path), str(tmp_path)])
    levers["main"]()
    rows = re.findall(r"(?m)^(\S.*?) +(\d\.\d\d \(.*?)   ([+-].*) years$", capsys.readouterr().out)
    return {lever: (error, difference) for lever, error, difference in rows}


@pytest.mark.parametrize(
    ("lever", "years"),
    [
        ("as it is", 2.0),
        # One year in fold 0, two years in fold 1: (6 * 1 + 2 * 2) / 8.
        ("first 1 of 2 starts", 1.25),
        # Mirrored, 4 years less: 2 years too young; the mean is right.
        ("mean with the mirrored scan", 0.0),
        ("ridge on volumes alone", 3.0),
        ("mean with ridge on volumes", 2.5),
        # A line through either finds the age of the other fold.
        ("stacked with ridge on volumes", 0.0),
        ("gpr on volumes alone", 3.0),
    ],
)
def test_a_lever_is_worth_what_it_takes_off(
    found: dict[str, tuple[str, str]], lever: str, years: float
) -> None:
    error, difference = found[lever]
    assert error.startswith(f"{years:.2f} (")
    assert float(difference.split()[0]) == pytest.approx(years - 2.0, abs=0.005)
