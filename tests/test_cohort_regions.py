"""Regions of a cohort: what was planted in one is found there, and sums stay sums."""

import numpy as np
import pytest
from planted_cohort import BASELINE, OVERLAP, TOKENS, make_cohort, quarters, random_cohort, replaced
from scipy.stats import false_discovery_control

from ermoe_ba.assets import template
from ermoe_ba.maps.enrichment import Reach, cohort_region_table
from ermoe_ba.maps.overlap import RegionOverlap
from ermoe_ba.tables import COHORT_REGION_COLUMNS


def test_tokens_and_regions_share_every_voxel_of_the_brain() -> None:
    atlas = quarters()
    overlap = RegionOverlap.of(TOKENS, atlas)
    brain = template("desc-brain_mask").data > 0
    assert overlap.regions["index"].tolist() == [10, 15, 20, 25, 0]
    assert overlap.served_rt.sum() == brain.sum()
    for row, index in zip(overlap.served_rt, overlap.regions["index"], strict=True):
        assert row.sum() == np.count_nonzero((atlas.dseg.data == index) & brain)
    np.testing.assert_allclose(overlap.borne_rt.sum(axis=0), 1.0)
    # A token on the right has nothing on the left.
    right = TOKENS.centres_mm[:, 0] > 14
    assert not overlap.served_rt[:2, right & (TOKENS.centres_mm[:, 2] > -5)].any()


def test_a_cohort_region_table_adds_up() -> None:
    cohort = random_cohort(5)
    table = cohort_region_table(cohort, OVERLAP, 19, np.random.default_rng(0))
    assert table.columns.tolist() == list(COHORT_REGION_COLUMNS)
    assert len(table) == 3 * 5
    groups = table.groupby("expert")
    np.testing.assert_allclose(groups["load_share"].sum(), 1.0)
    # Weights sum to 1 over the experts in every place, so their means do in every region.
    np.testing.assert_allclose(table.groupby("index")["mean_weight"].sum(), 1.0, rtol=1e-5)
    assert table["contribution_years"].sum() == pytest.approx(
        cohort.people["predicted_age"].mean() - BASELINE, abs=1e-4
    )
    overall = (table["mean_weight"] * table["volume_ml"]).groupby(table["expert"]).sum()
    overall /= table.groupby("expert")["volume_ml"].sum()
    expected = np.log2(table["mean_weight"] / table["expert"].map(overall))
    np.testing.assert_allclose(table["enrichment_log2"], expected, rtol=1e-6)
    unlabelled = table["index"] == 0
    assert table.loc[unlabelled, ["enrichment_p", "contribution_q"]].isna().all(axis=None)
    ps = table.loc[~unlabelled, ["enrichment_p", "contribution_p"]].to_numpy()
    qs = table.loc[~unlabelled, ["enrichment_q", "contribution_q"]].to_numpy()
    # Twenty maps in all, the map itself among them.
    assert ((ps >= 0.05) & (ps <= 1)).all()
    # Benjamini and Yekutieli by hand, over the 24 p values of the table.
    order, number = np.argsort(ps.ravel()), ps.size
    steps = ps.ravel()[order] * number / np.arange(1, number + 1)
    steps *= (1 / np.arange(1, number + 1)).sum()
    by_hand = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1)
    np.testing.assert_allclose(qs.ravel()[order], by_hand)


def test_what_is_planted_in_a_region_is_found_there_and_not_elsewhere() -> None:
    cohort = random_cohort(6)
    # Tokens that lie in the right front for the most part.
    planted = OVERLAP.borne_rt[3] > 0.5
    weights, years = cohort.weights_pte.copy(), cohort.years_pte.copy()
    weights[:, planted] = [0.1, 0.8, 0.1]
    years[:, planted, 2] += 0.5
    changed = make_cohort(weights, years)
    table = cohort_region_table(changed, OVERLAP, 999, np.random.default_rng(1))
    rows = table[table["index"] > 0].set_index(["expert", "index"])
    best = rows.loc["free_1", "enrichment_log2"]
    assert best.idxmax() == 25
    assert rows.loc[("free_1", 25), "enrichment_q"] < 0.05
    assert rows.loc[("free_2", 25), "contribution_q"] < 0.05
    assert rows.loc[("free_2", 25), "contribution_years"] > 0.3 * planted.sum()
    assert rows.loc[("free_1", 10), "contribution_q"] > 0.05
    # Nobody's age is known.
    assert rows[["contribution_on_age", "on_age_p", "on_age_q"]].isna().all(axis=None)
    # The members say the same.
    assert (rows["member_agreement"] == 1.0).all()


def test_a_region_that_ages_is_found_where_means_are_nothing() -> None:
    """Years that follow the age and are 0 in the mean: means find nothing, slopes do."""
    ages = np.linspace(20, 80, 9)
    cohort = random_cohort(9)
    planted = OVERLAP.borne_rt[3] > 0.5
    years = cohort.years_pte - cohort.years_pte.mean(axis=0)
    years[:, planted, 1] += 0.01 * (ages - 50)[:, None]
    aged = make_cohort(cohort.weights_pte, years, chronological_age=ages)
    # 36 p values corrected together: one in 1,000 would come to 0.15.
    table = cohort_region_table(aged, OVERLAP, 9999, np.random.default_rng(1))
    rows = table[table["index"] > 0].set_index(["expert", "index"])
    assert rows["on_age_q"].idxmin() == ("free_1", 25)
    assert rows.loc[("free_1", 25), "on_age_q"] < 0.05
    assert abs(rows.loc[("free_1", 25), "contribution_years"]) < 1e-4
    slope = np.polyfit(ages, aged.people["predicted_age"], 1)[0]
    assert table["contribution_on_age"].sum() == pytest.approx(slope, rel=1e-4)


def test_the_smallest_q_is_that_of_one_row_that_no_surrogate_reaches() -> None:
    """Held against scipy's correction of one smallest p among ones."""
    reach = Reach(2205, 9999)
    alone = np.ones(2205)
    alone[0] = 1e-4
    assert reach.smallest_q == false_discovery_control(alone, method="by").min() == 1.0
    enough = reach.surrogates_for(0.05)
    # 2205 * 8.28 / 0.05, by hand.
    assert enough == pytest.approx(365_000, rel=1e-3)
    alone[0] = 1 / (enough + 1)
    assert Reach(2205, enough).smallest_q == pytest.approx(
        false_discovery_control(alone, method="by").min()
    )
    assert Reach(2205, enough).smallest_q <= 0.05 < Reach(2205, enough - 1).smallest_q
    assert (Reach(0, 9).smallest_q, Reach(0, 9).surrogates_for(0.05)) == (0.0, 1)


def test_mean_years_out_of_fold_are_0_by_construction_and_not_tested() -> None:
    ages = np.linspace(20, 80, 9)
    cohort = random_cohort(9, chronological_age=ages)
    seen, unseen = (
        cohort_region_table(
            replaced(cohort, out_of_fold=away), OVERLAP, 99, np.random.default_rng(0)
        )
        for away in (False, True)
    )
    # 3 experts in 4 regions: of the routing, the means and the slopes.
    assert (Reach.of(seen, 99).tests, Reach.of(unseen, 99).tests) == (36, 24)
    assert unseen[["contribution_p", "contribution_q"]].isna().all(axis=None)
    assert unseen["contribution_years"].equals(seen["contribution_years"])
    assert unseen["enrichment_p"].equals(seen["enrichment_p"])
    # Fewer tests, less correction.
    both = seen["enrichment_q"].notna() & (seen["enrichment_q"] < 1)
    assert (unseen["enrichment_q"] <= seen["enrichment_q"])[both].all()
