"""Agreement of maps between seeds, folds and halves."""

import numpy as np
import pytest
from planted_cohort import OVERLAP, TOKENS, make_cohort, random_cohort, random_weights, replaced

from ermoe_ba.maps.agreement import correlation, dice, expert_table
from ermoe_ba.maps.cohort import age_weights
from ermoe_ba.maps.enrichment import cohort_region_table
from ermoe_ba.tables import EXPERT_COLUMNS


def test_likeness_of_maps_by_hand() -> None:
    assert correlation(np.array([1.0, 2.0, 3.0]), np.array([5.0, 3.0, 1.0])) == pytest.approx(-1.0)
    assert np.isnan(correlation(np.ones(3), np.arange(3.0)))
    a, b = np.array([True, True, False, False]), np.array([True, False, True, True])
    # One in common, of two and three.
    assert dice(a, b) == pytest.approx(2 / 5)
    assert np.isnan(dice(a & False, b & False))


def test_members_of_one_stem_are_seeds_and_of_two_folds() -> None:
    """The first two members are alike; in the third, the free experts have changed places."""
    cohort = random_cohort(2)
    members = cohort.member_weights_mte.copy()
    members[2] = members[2][:, [0, 2, 1]]
    table = expert_table(
        replaced(cohort, member_weights_mte=members), OVERLAP, np.random.default_rng(0)
    ).set_index("expert")
    assert table.reset_index().columns.tolist() == list(EXPERT_COLUMNS)
    np.testing.assert_allclose(table["weight_r_seeds"], 1.0)
    np.testing.assert_allclose(table["winner_dice_seeds"], 1.0)
    assert table.loc["csf", "weight_r_folds"] == pytest.approx(1.0)
    exchanged = correlation(members[0][:, 1], members[0][:, 2])
    assert table.loc["free_1", "weight_r_folds"] == pytest.approx(exchanged)
    np.testing.assert_allclose(table["contribution_r_folds"], 1.0)
    # Two participants make no halves to compare.
    assert table["weight_r_halves"].isna().all()
    assert table["load"].sum() == pytest.approx(1.0, abs=1e-6)


def test_halves_agree_as_far_as_people_do() -> None:
    """Alike in all but noise of the same variance: r of means of ten is 10 / 11 or so."""
    rng = np.random.default_rng(0)
    common = rng.normal(0.0, 1.0, (len(TOKENS), 3))
    years = common + rng.normal(0.0, 1.0, (20, len(TOKENS), 3))
    weights = np.stack([random_weights(rng)[:, 0] for _ in range(20)])
    table = expert_table(make_cohort(weights, years), OVERLAP, np.random.default_rng(1))
    np.testing.assert_allclose(table["contribution_r_halves"], 10 / 11, atol=0.03)
    # Weights without anything in common.
    assert (table["weight_r_halves"].abs() < 0.3).all()


def test_enrichment_can_be_told_from_the_two_tables() -> None:
    """log2(mean_weight / load); an expert at the brain's edge has a smaller load than in tokens."""
    cohort = random_cohort(5)
    brain = OVERLAP.served_rt.sum(axis=0)
    weights = np.full(cohort.weights_pte.shape, 0.1)
    edge = brain < np.median(brain)
    weights[:, edge, 0], weights[:, ~edge, 1], weights[..., 2] = 0.8, 0.8, 0.1
    skewed = make_cohort(weights, cohort.years_pte)
    rng = np.random.default_rng(0)
    load = expert_table(skewed, OVERLAP, rng).set_index("expert")["load"]
    # By hand, of the voxels of the tokens at the edge.
    share = brain[edge].sum() / brain.sum()
    assert share < edge.mean() - 0.1
    assert load["csf"] == pytest.approx(0.8 * share + 0.1 * (1 - share), rel=1e-6)
    regions = cohort_region_table(skewed, OVERLAP, 9, rng)
    told = np.log2(regions["mean_weight"] / regions["expert"].map(load))
    np.testing.assert_allclose(regions["enrichment_log2"], told, rtol=1e-6, atol=1e-9)


def test_slopes_on_age_agree_where_means_cannot() -> None:
    """Slopes are alike in all people and means are 0: r of slopes is 1, that of means negative."""
    rng = np.random.default_rng(0)
    ages = np.linspace(20, 80, 20)
    slopes = rng.normal(0.0, 0.01, (len(TOKENS), 3))
    years = slopes * (ages - 50)[:, None, None] + rng.normal(0, 0.01, (20, len(TOKENS), 3))
    years -= years.mean(axis=0)
    weights = np.stack([random_weights(rng)[:, 0] for _ in range(20)])
    table = expert_table(make_cohort(weights, years, chronological_age=ages), OVERLAP, rng)
    assert (table["on_age_r_halves"] > 0.95).all()
    assert (table["contribution_r_halves"] < 0).all()
    np.testing.assert_allclose(table["on_age_r_seeds"], 1.0)
    np.testing.assert_allclose(table["contribution_on_age"], slopes.sum(axis=0), atol=0.02)
    unknown = expert_table(make_cohort(weights, years), OVERLAP, rng)
    on_age = ["contribution_on_age", "on_age_r_seeds", "on_age_r_folds", "on_age_r_halves"]
    assert unknown[on_age].isna().all(axis=None)


def test_slopes_on_age_leave_out_whose_age_is_unknown() -> None:
    ages = np.array([30.0, np.nan, 41, 45, 50, 62, 71, 77])
    values = np.array([3.0, 1000, 2, 5, 4, 6, 9, 7])
    known = np.isfinite(ages)
    weights = age_weights(ages)
    assert weights is not None
    assert weights @ values == pytest.approx(np.polyfit(ages[known], values[known], 1)[0])
    assert age_weights(ages[:7]) is None, "six known ages"
    assert age_weights(np.full(8, 40.0)) is None
