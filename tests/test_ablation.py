"""The ablation: kept descriptions in, one comparable row a network out, nothing done twice."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ablation_place import AGES, FOLDS, IDS, MASKED, RECIPE, Place, keep_fold, place

from ermoe_ba.cli.main import main
from ermoe_ba.errors import UsageError
from ermoe_ba.partial import prefix_of
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.ablation_fold import AblationFold
from ermoe_ba.training.ablation_network import train_unit
from ermoe_ba.training.ablation_recipe import AblationRecipe
from ermoe_ba.training.ablation_table import (
    ABLATION_COLUMNS,
)
from ermoe_ba.training.ablation_unit import (
    Unit,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["place"]


def _errors(place: Place, row: str, seed: int) -> pd.Series:
    """Absolute errors by participant, read from the files of the networks."""
    errors = {}
    for fold in (0, 1):
        path = place.folder / "out" / "networks" / f"row-{row}_seed-{seed}_fold-{fold}.json"
        unit = json.loads(path.read_text(encoding="utf-8"))
        assert unit["participant_id"] == [i for i in IDS if FOLDS[i] == fold]
        for i, age in zip(unit["participant_id"], unit["predicted_age"], strict=True):
            errors[i] = abs(age - AGES[i])
    return pd.Series(errors)


def test_the_table_is_made_of_what_the_networks_said(place: Place) -> None:
    table = place.ablation().run()
    assert table is not None
    assert list(table.columns) == list(ABLATION_COLUMNS)
    table = table.set_index("row")
    assert list(table.index) == ["ermoe", "softmax", "additive"]
    reference = (_errors(place, "additive", 1) + _errors(place, "additive", 2)) / 2
    for row in table.index:
        by_seed = [_errors(place, row, seed) for seed in (1, 2)]
        mean = (by_seed[0] + by_seed[1]) / 2
        assert sorted(mean.index) == IDS
        assert table.loc[row, "mae"] == pytest.approx(mean.mean())
        # Of two numbers, the standard deviation is their distance over the root of 2.
        apart = abs(by_seed[0].mean() - by_seed[1].mean())
        assert table.loc[row, "mae_seed_sd"] == pytest.approx(apart / 2**0.5)
        assert table.loc[row, "mae_lower"] < table.loc[row, "mae"] < table.loc[row, "mae_upper"]
        if row != "additive":
            paired = (mean - reference).mean()
            assert table.loc[row, "difference"] == pytest.approx(paired)
            assert table.loc[row, "difference_lower"] < paired < table.loc[row, "difference_upper"]
            # Student's t of one degree of freedom is Cauchy's: quantile tan(pi (p - 1/2)). The
            # standard error of a mean of two is half their distance; the recipe asks for 90 %.
            d1, d2 = (by_seed[k].mean() - _errors(place, "additive", k + 1).mean() for k in (0, 1))
            half = np.tan(np.pi * 0.9 / 2) * abs(d1 - d2) / 2
            assert table.loc[row, "difference_seed_lower"] == pytest.approx(paired - half)
            assert table.loc[row, "difference_seed_upper"] == pytest.approx(paired + half)
    dense = table.loc["additive"]
    assert dense[["difference", "load_gini", "mae_random_routing"]].isna().all()
    routed = table.loc[["ermoe", "softmax"]]
    for name in ("changed_between_epochs", "changed_between_seeds", "load_gini", "load_entropy"):
        assert routed[name].between(0, 1).all(), name
    assert (routed["parameters_total"] > routed["parameters_active"]).all()
    # One expert a token in place of two (U, V, s, m and w less), and a gate of 12 x 5.
    less = 2 * 12 * 5 + 5 + 5 + 12 - 12 * 5
    active = table["parameters_active"]
    assert active["softmax"] == active["ermoe"] - less
    written = pd.read_csv(place.folder / "out" / "table.tsv", sep="\t").set_index("row")
    np.testing.assert_allclose(written["mae"], table["mae"])
    text = (place.folder / "out" / "table.md").read_text(encoding="utf-8")
    assert "12 scans, folds 0, 1, seeds 1, 2; reference: additive" in text
    assert f"| {table.loc['ermoe', 'mae']:.2f} |" in text


def test_networks_behind_another_stem_are_not_put_into_one_table(place: Place) -> None:
    place.ablation().run()
    path = place.folder / "out" / "networks" / "row-softmax_seed-2_fold-1.json"
    unit = json.loads(path.read_text(encoding="utf-8"))
    for what, other in (("stem", "0"), ("participant_id", unit["participant_id"][::-1])):
        path.write_text(json.dumps({**unit, what: other}), encoding="utf-8")
        with pytest.raises(UsageError, match=r"must have the same .* row-softmax_seed-2_fold-1"):
            place.ablation(resume=True).run()


def test_a_lonely_expert_has_no_even_load(place: Place) -> None:
    recipe = place.recipe()
    lonely = replace(
        recipe.row[0], model={"regions": [], "num_free_experts": 1, "top_k": 1}, name="one"
    )
    unit = train_unit(recipe, lonely, place.fold(recipe), 1)
    assert unit.routes is None
    assert "load_gini" not in unit.figures
    assert unit.figures["mae_without_least"] == unit.figures["mae_without_most"]


def test_folds_can_be_shared_and_nothing_is_trained_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.ablation().run(0) is None
    trained: list[tuple[str, int, int]] = []

    def record(recipe: AblationRecipe, row: Any, fold: AblationFold, seed: int) -> Unit:
        trained.append((row.name, seed, fold.fold))
        return train_unit(recipe, row, fold, seed)

    monkeypatch.setattr("ermoe_ba.training.ablation.train_unit", record)
    first = place.ablation(resume=True).run()
    assert first is not None
    assert sorted(trained) == [
        (row, seed, 1) for row in ("additive", "ermoe", "softmax") for seed in (1, 2)
    ]
    second = place.ablation(resume=True).run()
    assert len(trained) == 6
    assert second is not None
    pd.testing.assert_frame_equal(first, second)


def test_the_same_seed_gives_the_same_ages_whether_or_not_somebody_watches(place: Place) -> None:
    recipe = place.recipe()
    fold = place.fold(recipe)
    many = replace(recipe, ablation=replace(recipe.ablation, stability_epochs=2))
    units = [train_unit(r, recipe.row[0], fold, seed) for r, seed in ((recipe, 1), (many, 1))]
    assert units[0].predicted_age == units[1].predicted_age
    assert train_unit(recipe, recipe.row[0], fold, 2).predicted_age != units[0].predicted_age


def test_where_no_run_is_given_the_stems_are_trained_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, small_tokens: TokenGrid
) -> None:
    made: list[int] = []

    class FakeCrossValidation:
        """Stands for `CrossValidation`."""

        def __init__(self, recipe: Any, participants: Path, run: Path) -> None:
            assert run == place.folder / "out" / "stems"
            self.run = run

        def keep_described(self, fold: int) -> None:
            made.append(fold)
            keep_fold(self.run, small_tokens, fold)

    monkeypatch.setattr("ermoe_ba.training.ablation_fold.CrossValidation", FakeCrossValidation)
    place.ablation(run=None).run(1)
    assert made == [1]


def test_results_are_neither_overwritten_nor_mixed(place: Place) -> None:
    place.ablation()
    with pytest.raises(UsageError, match="--resume"):
        place.ablation()
    with pytest.raises(UsageError, match="another recipe"):
        place.ablation(RECIPE.replace("resamples = 200", "resamples = 300"), resume=True)
    with pytest.raises(UsageError, match=r"--fold must be one of \(0, 1\); found 7"):
        place.ablation(resume=True).run(7)


def test_descriptions_that_a_killed_start_left_half_written_are_removed(
    place: Place, dead: int
) -> None:
    path = place.folder / "out" / "described" / "0123456789abcdef_described.safetensors"
    name, host, _, _ = prefix_of(path).rsplit("-", 3)
    path.parent.mkdir(parents=True)
    for process in (dead, os.getpid()):
        path.with_name(f"{name}-{host}-{process}-x.safetensors").touch()
    place.ablation()
    left = [partial.name for partial in path.parent.iterdir()]
    assert left == [f"{name}-{host}-{os.getpid()}-x.safetensors"]


def test_how_far_a_change_moves_ages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that exchanges the first scan and the last, and one that does nothing."""
    recipe = place.recipe(RECIPE.replace("resamples", 'moved_by = ["mask", "flip"]\nresamples'))

    def moved(fold: AblationFold, change: str) -> torch.Tensor:
        test = fold.described(fold.recipe.age).test
        return test[[3, 1, 2, 0]] if change == "flip" else test

    monkeypatch.setattr(AblationFold, "moved", moved)
    for row in (recipe.row[0], recipe.row[2]):
        unit = train_unit(recipe, row, place.fold(recipe), 1)
        apart = abs(unit.predicted_age[0] - unit.predicted_age[3])
        assert apart > 1
        assert unit.figures["moved_by_mask"] == 0
        assert unit.figures["moved_by_flip"] == pytest.approx(2 * apart / 4, rel=1e-3)
        assert "moved_by_noise" not in unit.figures


def test_the_command_prints_its_table(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.recipe()
    command = ["ablate", str(place.folder / "ablation.toml")]
    command += ["--participants", str(place.participants), "--run", str(place.kept)]
    command += ["--out", str(place.folder / "out")]
    assert main([*command, "--fold", "0"]) == 0
    assert "others are still to come" in capsys.readouterr().out
    assert main([*command, "--resume"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("| row | mae |")
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err


def test_rows_may_differ_in_what_comes_before_the_age(place: Place) -> None:
    """Nobody who is tested takes part in it, and only the rows that ask for it have it."""
    masked_row = f'[[row]]\nname = "masked"\npretrain = {MASKED}'
    text = RECIPE.replace('name = "ermoe"', f'name = "ermoe"\n\n{masked_row}')
    recipe = place.recipe(text)
    ermoe, masked = recipe.row[:2]
    assert recipe.pretrain_of(ermoe).stages() == {}
    assert list(recipe.pretrain_of(masked).stages()) == ["masked"]
    (place.kept / "scans.tsv").write_text("scan\tparticipant_id\tvoxel_hash\n", "utf-8")
    fold = place.fold(recipe)
    config = recipe.age_of(masked)
    lessons = fold.lessons(fold.described(config), config, recipe.pretrain_of(masked))
    assert list(lessons.participants) == [i for i in IDS if FOLDS[i] != 0]
    assert len(lessons.described_nv) == len(lessons.participants)
    assert lessons.volumes_nl is None
    assert lessons.simulated is None
    without, after = (train_unit(recipe, row, fold, 1) for row in (ermoe, masked))
    assert without.predicted_age != after.predicted_age
    assert train_unit(recipe, masked, fold, 1).predicted_age == after.predicted_age
