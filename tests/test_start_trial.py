"""The trial of starts: who chooses a row, who is tested by it, and what the choice is worth."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.tokens import TokenGrid

# The recipe's five folds; in the smallest training part, each of four inner folds has two people.
FOLDS, PEOPLE = 5, 11
# Years by which a row errs: of the inner folds of folds 0 to 4, and of their test scans.
INNER = {"shipped": (3.0, 3.0, 3.0, 3.0, 3.0), "rank-32": (2.0, 4.0, 4.0, 4.0, 2.0)}
TESTED = {"shipped": (5.0, 1.0, 1.0, 1.0, 2.0), "rank-32": (6.0, 9.0, 9.0, 9.0, 4.0)}


@pytest.fixture
def trial(recipe_names: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return recipe_names("start_trial")


def _keep(run: Path, described: Callable[[int, int, bool], torch.Tensor]) -> None:
    """Keep a run of eleven people aged 20 to 70: person n is tested in fold n % 5."""
    (run / "kept").mkdir()
    ages = [20.0 + 5 * n for n in range(PEOPLE)]
    scans = "".join(f"{n:02}\t{age}\n" for n, age in enumerate(ages))
    splits = "".join(f"{n:02}\t{n % FOLDS}\n" for n in range(PEOPLE))
    (run / "scans.tsv").write_text(f"participant_id\tchronological_age\n{scans}", "utf-8")
    (run / "splits.tsv").write_text(f"participant_id\tfold\n{splits}", "utf-8")
    for fold in range(FOLDS):
        kept = {
            name: torch.stack(
                [described(n, fold, tested) for n in range(PEOPLE) if (n % FOLDS == fold) is tested]
            )
            for name, tested in (("train", False), ("test", True))
        }
        save_file(kept, run / "kept" / f"fold-{fold}_described.safetensors")


@pytest.fixture
def told(tmp_path: Path, trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose descriptions tell age, fold and side, and networks that err as planned."""

    def start_ages(_: Any, row: Any, train: Any, ages: Any, test: torch.Tensor) -> Any:
        assert len(train) == len(ages)
        np.testing.assert_array_equal(train[:, 0, 0], ages)
        age, fold, tested = test[:, 0].T.numpy()
        assert len(set(fold)) == len(set(tested)) == 1
        planned = TESTED if tested[0] else INNER
        return age + planned[row.name][int(fold[0])]

    monkeypatch.setitem(trial, "start_ages", start_ages)
    _keep(
        tmp_path, lambda n, fold, tested: torch.tensor([[20.0 + 5 * n, float(fold), float(tested)]])
    )
    return tmp_path


def _called(
    trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch, run: Path, *arguments: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["start_trial.py", str(run), *arguments])
    trial["main"]()


def test_each_fold_takes_what_errs_least_on_its_own_inner_folds(
    told: Path,
    trial: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Folds 0 and 4 take rank-32, with 6 and 4 years on test; shipped has 5 and 2 there.

    Fold 0 tests three people, the others two. Chosen: (3*6 + 2*1 + 2*1 + 2*1 + 2*4) / 11 = 32 / 11;
    shipped: (3*5 + 2*1 + 2*1 + 2*1 + 2*2) / 11 = 25 / 11; difference: 7 / 11.
    """
    _called(trial, monkeypatch, told, "--nested", "--row", "shipped", "rank-32")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines[:5]] == [
        "rank-32", "shipped", "shipped", "shipped", "rank-32",
    ]  # fmt: skip
    assert lines[0].endswith("2.00 on inner folds; test scans 6.00, shipped 5.00 years")
    assert lines[5].startswith("test scans, each fold's own row 2.91 (")
    assert lines[6].startswith("test scans, shipped 2.27 (")
    assert lines[7].startswith("difference +0.64 (+")


def test_the_table_is_of_inner_folds_alone(
    told: Path,
    trial: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A person's error is the mean over the folds that trained on it: without fold n % 5.

    rank-32: folds sum to 16, so (16 - 2) / 4 = 3.5 for those of folds 0 and 4, (16 - 4) / 4 = 3 for
    the others: (5 * 3.5 + 6 * 3) / 11 = 3.227; shipped errs by 3 everywhere.
    """
    _called(trial, monkeypatch, told, "--row", "rank-32")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("rank-32          3.23 (")
    assert "   +0.23 (+" in line


def test_rows_that_could_not_ship_are_no_candidates(
    told: Path,
    trial: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = trial["read_ablation"](trial["RECIPE"])
    rivals = {row.name for row in recipe.row if not trial["is_candidate"](recipe, row)}
    assert rivals == {
        "one-expert", "no-expert", "softmax", "subspace", "compression-0-one-expert",
        "shrinkage-1-one-expert", "one-expert-rank-32",
    }  # fmt: skip
    asked: list[list[str]] = []
    monkeypatch.setitem(
        trial, "print_nested", lambda _, rows, __: asked.append([row.name for row in rows])
    )
    _called(trial, monkeypatch, told, "--nested")
    assert asked == [[row.name for row in recipe.row if row.name not in rivals]]
    with pytest.raises(SystemExit):
        _called(trial, monkeypatch, told, "--nested", "--row", "shipped", "softmax")
    assert "found softmax: leave that out of --row" in capsys.readouterr().err


def test_who_is_tested_neither_chooses_nor_teaches(
    tmp_path: Path,
    trial: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    small_tokens: TokenGrid,
    one_torch_thread: None,
) -> None:
    """With real networks: other descriptions of the test scans change their ages, nothing else."""
    random = np.random.default_rng(1)

    def described(n: int, *_: object) -> torch.Tensor:
        """Ventricles of the middle token grow with age; two copies."""
        shape = (3, len(small_tokens), len(FAMILIES), len(TISSUES))
        found = random.uniform(0.08, 0.12, shape)
        found[:, len(small_tokens) // 2, :, TISSUES.index("ventricles")] += n / PEOPLE
        return torch.as_tensor(found / found.sum(axis=-1, keepdims=True)).half()

    _keep(tmp_path, described)
    monkeypatch.setitem(trial, "token_grid", lambda _: small_tokens)
    recipe = trial["read_ablation"](trial["RECIPE"])
    shipped = trial["reference_row"](recipe)
    before = trial["read_fold"](tmp_path, 0)
    assert list(before.test_ages.index) == ["00", "05", "10"]
    inner = trial["inner_errors"](recipe, shipped, before)
    tested = trial["tested_errors"](recipe, shipped, before)
    assert list(inner.index) == [f"{n:02}" for n in range(PEOPLE) if n % FOLDS]
    # The mean age would err by more: the networks learn.
    assert inner.mean() < (before.train_ages - before.train_ages.mean()).abs().mean()
    path = tmp_path / "kept" / "fold-0_described.safetensors"
    kept = load_file(path)
    # The first of the three is now described as the last was.
    kept["test"] = kept["test"][[2, 1, 2]]
    save_file(kept, path)
    after = trial["read_fold"](tmp_path, 0)
    np.testing.assert_array_equal(trial["inner_errors"](recipe, shipped, after), inner)
    moved = trial["tested_errors"](recipe, shipped, after)
    assert moved["00"] != tested["00"]
    np.testing.assert_array_equal(moved[["05", "10"]], tested[["05", "10"]])
