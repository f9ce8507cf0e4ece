"""Effects of age, gap and groups: found where they were planted, and nowhere else."""

import numpy as np
import pytest
from planted_cohort import OVERLAP, SPOT, TOKENS, make_cohort, random_cohort, replaced

from ermoe_ba.errors import UsageError
from ermoe_ba.maps.effects import effect_table, measure_effects
from ermoe_ba.maps.files import effect_stems
from ermoe_ba.tables import EFFECT_COLUMNS


def test_age_is_found_where_it_was_planted_and_gap_nowhere() -> None:
    ages = np.linspace(20, 80, 24)
    cohort = random_cohort(24, chronological_age=ages)
    years = cohort.years_pte.copy()
    years[:, SPOT, 0] += 0.01 * (ages - 50)
    changed = make_cohort(cohort.weights_pte, years, chronological_age=ages)
    age, gap = measure_effects(changed, None, 199, 0)
    assert (age.name, gap.name, age.participants) == ("age", "gap", 24)
    assert age.t_tv.shape == (len(TOKENS), 4)
    assert np.unravel_index(age.t_tv.argmax(), age.t_tv.shape) == (SPOT, 0)
    # One in 200 is the smallest p there is.
    assert age.logp_tv[SPOT, 0] == pytest.approx(np.log10(200))
    assert np.count_nonzero(age.logp_tv > -np.log10(0.05)) == 1
    table = effect_table(changed, [age, gap], OVERLAP)
    assert table.columns.tolist() == list(EFFECT_COLUMNS)
    row = table[(table["effect"] == "age") & (table["map"] == "contribution")].iloc[0]
    assert [row["tokens_up"], row["tokens_down"]] == [1, 0]
    np.testing.assert_allclose(
        row[["peak_x_mm", "peak_y_mm", "peak_z_mm"]].astype(float), TOKENS.centres_mm[SPOT]
    )
    assert table[table["map"] != "contribution"]["tokens_up"].sum() == 0
    assert row[["peak_region", "peak_hemisphere"]].tolist() == ["front", "R"]


def test_the_t_of_a_token_is_that_of_a_straight_line() -> None:
    from scipy.stats import linregress

    ages = np.array([20.0, 25, 31, 40, 44, 58, 61, 70])
    cohort = random_cohort(8, chronological_age=ages)
    effect = measure_effects(cohort, None, 9, 0)[0]
    line = linregress(ages, cohort.weights_pte[:, SPOT, 1].astype(float))
    assert effect.t_tv[SPOT, 2] == pytest.approx(line.slope / line.stderr, rel=1e-4)
    of_years = linregress(ages, cohort.years_pte[:, SPOT, 1].astype(float))
    assert effect.years_te[SPOT, 1] == pytest.approx(of_years.slope, rel=1e-4)


def test_what_effects_add_over_the_brain_is_what_they_add_to_the_age() -> None:
    """Along age, the slope of predicted ages; a year of gap at equal age is a year."""
    ages = np.linspace(20, 70, 12)
    site = ["a", "b"] * 6
    cohort = random_cohort(12, chronological_age=ages, site=site)
    age, gap, group = measure_effects(cohort, "site", 9, 0)
    predicted = cohort.people["predicted_age"].to_numpy()
    assert age.years_te.sum() == pytest.approx(np.polyfit(ages, predicted, 1)[0], rel=1e-4)
    assert gap.years_te.sum() == pytest.approx(1.0, abs=1e-5)
    design = np.stack([np.ones(12), np.array(site) == "b", ages], axis=1)
    by_hand = np.linalg.solve(design.T @ design, design.T @ predicted)[1]
    assert group.years_te.sum() == pytest.approx(by_hand, rel=1e-4)
    table = effect_table(cohort, [age, gap, group], OVERLAP)
    years = table.loc[table["map"] == "contribution", "years"]
    np.testing.assert_allclose(years, [e.years_te.sum() for e in (age, gap, group)])
    assert table.loc[table["map"] != "contribution", "years"].isna().all()


@pytest.mark.slow
def test_of_cohorts_without_an_effect_one_in_twenty_shows_one() -> None:
    """Ages dealt out at random: the least corrected p of all tokens and maps is below 0.05 in 5 %.

    Of 200 cohorts 10 are expected, with a standard deviation of 3.1.
    """
    rng = np.random.default_rng(3)
    ages = np.linspace(20, 80, 16)
    cohort = random_cohort(16, chronological_age=ages)
    # Maps as smooth as real ones: a token's neighbours say much the same.
    apart = np.linalg.norm(TOKENS.centres_mm[:, None] - TOKENS.centres_mm[None], axis=-1)
    near = np.exp(-((apart / 30.0) ** 2))
    smooth = np.einsum("ts,pse->pte", near / near.sum(axis=1, keepdims=True), cohort.years_pte)
    least = []
    for number in range(200):
        shuffled = make_cohort(cohort.weights_pte, smooth, chronological_age=rng.permutation(ages))
        effect = measure_effects(shuffled, None, 39, number)[0]
        least.append(10.0 ** -effect.logp_tv.max())
    # One in 40 is the smallest p there is, and 2 in 40 is 0.05.
    assert 1 <= np.count_nonzero(np.array(least) < 0.051) <= 20


def test_groups_are_told_apart_where_they_differ() -> None:
    group = ["a", "b"] * 8
    cohort = random_cohort(16)
    weights = cohort.weights_pte.copy()
    weights[1::2, SPOT] = [0.0, 0.1, 0.9]
    effects = measure_effects(make_cohort(weights, cohort.years_pte, site=group), "site", 199, 0)
    assert [e.name for e in effects] == ["group-b"]
    assert "at equal" not in effects[0].meaning
    assert effects[0].logp_tv[SPOT, 3] > 2
    assert effects[0].t_tv[SPOT, 3] > 0 > effects[0].t_tv[SPOT, 1]


def test_of_three_groups_each_is_held_against_the_others_at_equal_age() -> None:
    ages = np.linspace(30, 60, 12)
    cohort = random_cohort(12, chronological_age=ages, site=list("abc") * 4)
    names = [e.name for e in measure_effects(cohort, "site", 9, 0)]
    assert names == ["age", "gap", "group-a", "group-b", "group-c"]
    assert measure_effects(cohort, "site", 9, 0)[2].meaning.endswith("at equal chronological age")


def test_weights_that_never_vary_have_no_effect() -> None:
    cohort = random_cohort(8, chronological_age=np.arange(20.0, 28.0))
    weights = cohort.weights_pte.copy()
    weights[..., 0] = 0.25
    effect = measure_effects(replaced(cohort, weights_pte=weights), None, 9, 0)[0]
    assert (effect.t_tv[:, 1] == 0).all()
    assert np.isfinite(effect.t_tv).all()


@pytest.mark.parametrize("column", ["no such", "site", "lonely", "scans"])
def test_groups_that_tell_nobody_apart_are_refused(column: str) -> None:
    cohort = random_cohort(8, site=["x"] * 8, lonely=["a"] * 7 + ["b"])
    with pytest.raises(UsageError, match=f"--groups {column}: must"):
        measure_effects(cohort, column, 9, 0)


def test_without_ages_there_is_no_effect_to_measure() -> None:
    assert measure_effects(random_cohort(8), None, 9, 0) == []


def test_groups_of_like_names_have_maps_of_their_own() -> None:
    """A+, A- and A? are one name in letters; a and A are one file on some systems."""
    names = ["age", "group-A+", "group-A-", "group-A?", "group-A--2", "group-x", "group-X"]
    assert effect_stems(names) == [
        f"group_effect-{stem}"
        for stem in ("age", "group-A--1", "group-A--3", "group-A--4", "group-A--2")
    ] + ["group_effect-group-x-1", "group_effect-group-X-2"]
