"""The figures of an ablation's table by hand: intervals, places, experts that change."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ablation_place import RECIPE, Place, place

from ermoe_ba.errors import UsageError
from ermoe_ba.space import Array
from ermoe_ba.training.ablation_table import (
    ablation_table,
    as_markdown,
    changed_after_matching,
    mean_figures,
    mean_interval,
)
from ermoe_ba.training.ablation_unit import (
    Routes,
    Unit,
    changed_share,
    load_unit,
    save_unit,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["place"]


def test_scans_of_one_person_share_a_place(place: Place) -> None:
    """Twice the scans of one person count as one person, with their mean error."""
    table = place.ablation().run()
    assert table is not None
    recipe, folder = place.recipe(), place.folder / "out" / "networks"
    units = {
        (row.name, seed, fold): load_unit(folder / f"row-{row.name}_seed-{seed}_fold-{fold}.json")
        for row in recipe.row
        for seed in (1, 2)
        for fold in (0, 1)
    }
    twice = {
        key: replace(
            unit,
            participant_id=(*unit.participant_id, unit.participant_id[0]),
            chronological_age=(*unit.chronological_age, unit.chronological_age[0]),
            predicted_age=(*unit.predicted_age, unit.predicted_age[0]),
        )
        for key, unit in units.items()
    }
    pd.testing.assert_frame_equal(ablation_table(recipe, twice), table)


def test_intervals_of_a_mean(place: Place) -> None:
    """About 1.64 standard errors to each side for 90 %; nothing where nothing varies."""
    recipe = place.recipe(RECIPE.replace("resamples = 200", "resamples = 4000"))
    assert mean_interval(np.full(9, 2.5), recipe) == (2.5, 2.5)
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = mean_interval(values, recipe)
    expected = 1.645 * values.std() / 20
    assert values.mean() - low == pytest.approx(expected, rel=0.1)
    assert high - values.mean() == pytest.approx(expected, rel=0.1)
    assert mean_interval(values, recipe) == (low, high)


def test_errors_of_a_large_fold_count_for_its_people() -> None:
    """Three people at 4 years and one at 8: 5 years a person, as the row's own error counts them.

    One of the three was scanned twice. What is no error of people is a mean over networks.
    """

    def unit(people: str, **figures: float) -> Unit:
        ages = (50.0,) * len(people)
        return Unit(tuple(people), ages, ages, figures, None, "stem", "commit")

    large = unit("abcc", mae_random_routing=4.0, moved_by_mask=1.0, load_gini=0.1, mae_zeroed=9.0)
    small = unit("d", mae_random_routing=8.0, moved_by_mask=3.0, load_gini=0.3, mae_zeroed=np.nan)
    means = mean_figures([large, small])
    expected = {
        "mae_random_routing": 5.0,
        "moved_by_mask": 1.5,
        "load_gini": 0.2,
        # Of one network alone.
        "mae_zeroed": 9.0,
    }
    assert means == pytest.approx(expected)


def _one_hot(experts: list[int], count: int) -> Array:
    return np.eye(count, dtype=bool)[experts][None]


def test_a_token_counts_once_however_many_of_its_experts_change() -> None:
    """Of four tokens, one keeps both experts, one swaps one, one both; one swaps none."""
    before = np.array([[[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]], dtype=bool)
    after = np.array([[[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1]]], dtype=bool)
    assert changed_share(before, after) == 0.5


def test_experts_under_other_names_have_not_changed() -> None:
    """Free experts 1 and 2 trade names; expert 0 is regional and keeps its own."""
    experts, renamed = [0, 1, 2, 2, 1, 0], [0, 2, 1, 1, 2, 0]
    one, two = _one_hot(experts, 3), _one_hot(renamed, 3)
    first, second = (Routes(s, s[0].astype(float), 1) for s in (one, two))
    assert changed_share(one, two) == pytest.approx(4 / 6)
    assert changed_after_matching(first, second) == 0.0
    # Were it the regional one that traded, nobody could have renamed it.
    other = _one_hot([1, 0, 2, 2, 0, 1], 3)
    assert changed_after_matching(first, Routes(other, other[0].astype(float), 3)) == 4 / 6


def test_a_unit_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    selected = np.array([[[True, False], [False, True], [True, True]]])
    routes = Routes(selected, np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]), 1)
    unit = Unit(
        ("007", "NA"), (20.5, 30.0), (21.0, 33.25), {"load_gini": 0.125}, routes, "5e", "c0"
    )
    save_unit(tmp_path / "unit.json", unit)
    found = load_unit(tmp_path / "unit.json")
    assert replace(found, routes=None) == replace(unit, routes=None)
    assert found.routes is not None
    assert found.routes.selected_bte.dtype == bool
    np.testing.assert_array_equal(found.routes.selected_bte, selected)
    np.testing.assert_array_equal(found.routes.weights_te, routes.weights_te)
    assert found.routes.num_regional == 1


def test_a_unit_of_another_version_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "row-a_seed-1_fold-0.json"
    save_unit(path, Unit(("007",), (20.5,), (21.0,), {}, None, "5e", "c0"))
    content = json.loads(path.read_text("utf-8"))
    del content["stem"]
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(UsageError, match=r"row-a_seed-1_fold-0\.json must be .*stem.*Remove it"):
        load_unit(path)


def test_markdown_leaves_out_empty_columns() -> None:
    table = pd.DataFrame({"row": ["a", "b"], "mae": [5.123, 6.0], "load_gini": [0.1, np.nan]})
    text = as_markdown(table.assign(difference=np.nan))
    lines = text.splitlines()
    assert lines[:4] == [
        "| row | mae | load_gini |",
        "|---|---|---|",
        "| a | 5.12 | 0.10 |",
        "| b | 6.00 | n/a |",
    ]
    assert "difference" not in text
