"""Maps of a cohort: what was planted in its predictions is found, and sums stay sums."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from ermoe_ba.assets import template
from ermoe_ba.atlas import Atlas, load_atlas
from ermoe_ba.attribution.out_of_fold import _scans
from ermoe_ba.cli.main import main
from ermoe_ba.cli.maps import _card
from ermoe_ba.cli.maps import _cohort as _cohort_of
from ermoe_ba.cohort import Participants, read_participants
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json, write_volume
from ermoe_ba.maps.agreement import correlation, dice, expert_table
from ermoe_ba.maps.cohort import CohortMaps, age_weights, read_cohort
from ermoe_ba.maps.effects import effect_table, measure_effects
from ermoe_ba.maps.enrichment import Reach, cohort_region_table
from ermoe_ba.maps.files import effect_stems
from ermoe_ba.maps.group import write_group_maps
from ermoe_ba.maps.overlap import RegionOverlap
from ermoe_ba.maps.people import gather_people
from ermoe_ba.model_card import DEFAULT_MODEL, model_folder, read_card
from ermoe_ba.model_identity import model_identity
from ermoe_ba.scan_files import EXPERT_LABELS, MEMBER_WEIGHTS, MEMBER_YEARS, PREDICTION
from ermoe_ba.space import MODEL_GRID, Array
from ermoe_ba.tables import COHORT_REGION_COLUMNS, EFFECT_COLUMNS, EXPERT_COLUMNS, write_table
from ermoe_ba.tokens import TokenGrid

# Tokens of 24 mm on the template's brain: few enough to be quick.
TOKENS = TokenGrid.over(template("desc-brain_mask"), 12, 0.3)
EXPERTS = pd.DataFrame(
    {"index": [1, 2, 3], "name": ["csf", "free_1", "free_2"], "kind": ["regional", "free", "free"]}
)
# Two members of one fold and one of another.
STEMS = [0, 0, 1]
BASELINE = 48.0
# Where something is planted: right, in front.
SPOT = int(((TOKENS.centres_mm - [40.0, 30.0, 10.0]) ** 2).sum(axis=1).argmin())


def _weights(rng: np.random.Generator) -> Array:
    """Random weights of each token, member and expert, summing to 1 over the experts."""
    raw = rng.uniform(0.5, 1.0, (len(TOKENS), len(STEMS), len(EXPERTS)))
    return np.asarray(raw / raw.sum(axis=2, keepdims=True))


def _years(rng: np.random.Generator) -> Array:
    return rng.normal(0.0, 0.02, (len(TOKENS), len(STEMS), len(EXPERTS)))


def _write(folder: Path, name: str, weights: Array, years: Array, **known: Any) -> None:
    """Write what ``maps`` reads of a scan."""
    for suffix, values in {MEMBER_WEIGHTS: weights, MEMBER_YEARS: years}.items():
        by_token = values.reshape(len(TOKENS), -1).astype(np.float32)
        write_volume(folder / f"{name}_{suffix}", TOKENS.to_lattice(by_token))
    write_table(folder / f"{name}_{EXPERT_LABELS}", EXPERTS)
    content = {
        "status": "ok",
        "participant_id": name.split("_", maxsplit=1)[0].removeprefix("sub-"),
        "model_id": "m-1",
        "member_stems": STEMS,
        "baseline_years": BASELINE,
        "predicted_age": BASELINE + float(years.mean(axis=1).sum()),
        "chronological_age": 40.0,
    }
    write_json(folder / f"{name}_{PREDICTION}", {**content, **known})


def _cohort(weights_pte: Array, years_pte: Array, **people: Any) -> CohortMaps:
    """Make a cohort of which all members say the same."""
    count = len(weights_pte)
    table = pd.DataFrame(
        {
            "participant_id": [str(n) for n in range(count)],
            "scans": 1,
            "predicted_age": BASELINE + years_pte.sum(axis=(1, 2)),
            "chronological_age": np.nan,
            "brain_age_gap": np.nan,
        }
    ).assign(**people)
    table["brain_age_gap"] = table["predicted_age"] - table["chronological_age"]
    weights_p = age_weights(table["chronological_age"].to_numpy(dtype=float))
    on_age = None if weights_p is None else np.einsum("p,pte->te", weights_p, years_pte)
    return CohortMaps(
        model_id="m-1",
        tokens=TOKENS,
        experts=EXPERTS,
        member_stems=STEMS,
        baseline_years=BASELINE,
        people=table,
        weights_pte=weights_pte.astype(np.float32),
        years_pte=years_pte.astype(np.float32),
        member_weights_mte=np.stack([weights_pte.mean(axis=0)] * 3),
        member_years_mte=np.stack([years_pte.mean(axis=0)] * 3),
        member_on_age_mte=None if on_age is None else np.stack([on_age] * 3),
        out_of_fold=False,
    )


def _random_cohort(count: int, seed: int = 0, **people: Any) -> CohortMaps:
    rng = np.random.default_rng(seed)
    weights = np.stack([_weights(rng)[:, 0] for _ in range(count)])
    return _cohort(weights, np.stack([_years(rng)[:, 0] for _ in range(count)]), **people)


# Reading


def test_scans_of_a_participant_count_once_and_members_stay_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights, years = [_weights(rng) for _ in range(3)], [_years(rng) for _ in range(3)]
    _write(tmp_path / "deep", "sub-b", weights[0], years[0], chronological_age=None)
    _write(tmp_path, "sub-a_ses-1", weights[1], years[1], chronological_age=30.0)
    _write(tmp_path, "sub-a_ses-2", weights[2], years[2], chronological_age=32.0)
    write_json(tmp_path / f"sub-c_{PREDICTION}", {"status": "refused"} | _rest())
    cohort = read_cohort(tmp_path)
    assert cohort.tokens == TOKENS
    assert sorted(cohort.people["participant_id"]) == ["a", "b"]
    people = cohort.people.set_index("participant_id")
    assert people["scans"].to_dict() == {"a": 2, "b": 1}
    assert people.loc["a", "chronological_age"] == 31.0
    assert np.isnan(people.loc["b", "brain_age_gap"])
    order = people.index.get_indexer(["a", "b"])
    mean_a = (weights[1] + weights[2]) / 2
    np.testing.assert_allclose(cohort.weights_pte[order[0]], mean_a.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(cohort.years_pte[order[1]], years[0].mean(axis=1), atol=1e-6)
    both = (mean_a + weights[0]) / 2
    np.testing.assert_allclose(cohort.member_weights_mte, np.moveaxis(both, 1, 0), atol=1e-6)
    gap = people.loc["a", "predicted_age"] - 31.0
    assert people.loc["a", "brain_age_gap"] == pytest.approx(gap)
    assert people.loc["a", "predicted_age"] == pytest.approx(
        BASELINE + (years[1] + years[2]).mean(axis=1).sum() / 2
    )


def test_slopes_of_members_are_read_on_the_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ages, years = np.arange(30.0, 70.0, 5.0), [_years(rng) for _ in range(8)]
    for number, (age, said) in enumerate(zip(ages, years, strict=True)):
        _write(tmp_path, f"sub-{number}", _weights(rng), said, chronological_age=age)
    cohort = read_cohort(tmp_path)
    assert not cohort.out_of_fold
    assert cohort.member_on_age_mte is not None
    flat = np.stack(years).reshape(8, -1)
    by_hand = np.polyfit(ages, flat, 1)[0].reshape(years[0].shape)
    np.testing.assert_allclose(cohort.member_on_age_mte, np.moveaxis(by_hand, 1, 0), atol=1e-7)


def _rest() -> dict[str, Any]:
    return {
        "participant_id": "c",
        "model_id": "m-2",
        "member_stems": [],
        "baseline_years": 0.0,
        "predicted_age": None,
        "chronological_age": None,
    }


def test_ages_of_the_participants_table_count_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    _write(tmp_path, "sub-a", _weights(rng), _years(rng))
    table = pd.DataFrame({"age": [52.0], "sex": ["F"]}, index=["a"])
    people = read_cohort(tmp_path, Participants(table)).people
    assert people[["chronological_age", "sex"]].to_numpy().tolist() == [[52.0, "F"]]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda f: (f / f"sub-a_{PREDICTION}").unlink(), "found none"),
        (lambda f: (f / f"sub-a_{MEMBER_YEARS}").unlink(), "Predict without --no-maps"),
        (lambda f: (f / f"sub-a_{PREDICTION}").write_text("{}"), "prediction of this version"),
        (lambda f: write_json(f / f"sub-c_{PREDICTION}", _rest() | {"status": "ok"}), "one model"),
        (
            lambda f: nib.Nifti1Image(np.zeros((3, 3, 3, 9)), np.eye(4)).to_filename(
                f / f"sub-a_{MEMBER_YEARS}"
            ),
            "must have 9 values on the lattice",
        ),
    ],
    ids=["none", "no maps", "old", "two models", "other lattice"],
)
def test_what_makes_no_cohort_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    rng = np.random.default_rng(0)
    _write(tmp_path, "sub-a", _weights(rng), _years(rng))
    spoil(tmp_path)
    with pytest.raises(UsageError, match=why):
        read_cohort(tmp_path)


def test_an_age_at_a_session_is_known_by_its_prediction(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for session, age in (("1", 40.0), ("2", 60.0)):
        at = {"session_id": session, "chronological_age": age, "age_at_session": True}
        _write(tmp_path, f"sub-a_ses-{session}", _weights(rng), _years(rng), **at)
    _write(tmp_path, "sub-b", _weights(rng), _years(rng))
    cohort = read_cohort(tmp_path, Participants(pd.DataFrame({"age": [40.0]}, index=["a"])))
    people = cohort.people.set_index("participant_id")
    assert people.loc["a", "chronological_age"] == 50.0
    assert np.isnan(people.loc["b", "chronological_age"])
    assert len(cohort.remarks) == 1
    assert "found none of 1 (b)" in cohort.remarks[0]


def test_intervals_and_flags_are_read_of_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    told = {"predicted_age_lower": 38.0, "predicted_age_upper": 60.0, "qc_flags": "noisy"}
    _write(tmp_path, "sub-a", _weights(rng), _years(rng), **told)
    _write(tmp_path, "sub-b", _weights(rng), _years(rng))
    people = read_cohort(tmp_path).people.set_index("participant_id")
    assert people.loc["a", list(told)].to_dict() == told
    assert people.loc["b", list(told)].isna().all()


# Regions


def _quarters() -> Atlas:
    """Left and right, back and front of the brain above z = -20 mm; what is below has no label."""
    brain = template("desc-brain_mask").data > 0
    dseg = np.zeros(MODEL_GRID.shape, dtype=np.int32)
    dseg[:46], dseg[46:] = 10, 20
    dseg[:, 63:] += 5
    dseg[:, :, :26] = 0
    names = {10: "back", 15: "front", 20: "back", 25: "front"}
    labels = pd.DataFrame(
        {"index": list(names), "name": list(names.values()), "hemisphere": ["L", "L", "R", "R"]}
    )
    dseg = np.where(brain, dseg, 0)
    return Atlas(
        name="q", dseg=template("desc-brain_mask").same_grid(dseg), labels=labels, licence=""
    )


OVERLAP = RegionOverlap.of(TOKENS, _quarters())


def test_tokens_and_regions_share_every_voxel_of_the_brain() -> None:
    atlas = _quarters()
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
    cohort = _random_cohort(5)
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
    cohort = _random_cohort(6)
    # Tokens that lie in the right front for the most part.
    planted = OVERLAP.borne_rt[3] > 0.5
    weights, years = cohort.weights_pte.copy(), cohort.years_pte.copy()
    weights[:, planted] = [0.1, 0.8, 0.1]
    years[:, planted, 2] += 0.5
    changed = _cohort(weights, years)
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
    cohort = _random_cohort(9)
    planted = OVERLAP.borne_rt[3] > 0.5
    years = cohort.years_pte - cohort.years_pte.mean(axis=0)
    years[:, planted, 1] += 0.01 * (ages - 50)[:, None]
    aged = _cohort(cohort.weights_pte, years, chronological_age=ages)
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
    cohort = _random_cohort(9, chronological_age=ages)
    seen, unseen = (
        cohort_region_table(
            _replaced(cohort, out_of_fold=away), OVERLAP, 99, np.random.default_rng(0)
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


# Agreement


def test_likeness_of_maps_by_hand() -> None:
    assert correlation(np.array([1.0, 2.0, 3.0]), np.array([5.0, 3.0, 1.0])) == pytest.approx(-1.0)
    assert np.isnan(correlation(np.ones(3), np.arange(3.0)))
    a, b = np.array([True, True, False, False]), np.array([True, False, True, True])
    # One in common, of two and three.
    assert dice(a, b) == pytest.approx(2 / 5)
    assert np.isnan(dice(a & False, b & False))


def test_members_of_one_stem_are_seeds_and_of_two_folds() -> None:
    """The first two members are alike; in the third, the free experts have changed places."""
    cohort = _random_cohort(2)
    members = cohort.member_weights_mte.copy()
    members[2] = members[2][:, [0, 2, 1]]
    table = expert_table(
        _replaced(cohort, member_weights_mte=members), OVERLAP, np.random.default_rng(0)
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


def _replaced(cohort: CohortMaps, **changes: Any) -> CohortMaps:
    return CohortMaps(**{**vars(cohort), **changes})


def test_halves_agree_as_far_as_people_do() -> None:
    """Alike in all but noise of the same variance: r of means of ten is 10 / 11 or so."""
    rng = np.random.default_rng(0)
    common = rng.normal(0.0, 1.0, (len(TOKENS), 3))
    years = common + rng.normal(0.0, 1.0, (20, len(TOKENS), 3))
    weights = np.stack([_weights(rng)[:, 0] for _ in range(20)])
    table = expert_table(_cohort(weights, years), OVERLAP, np.random.default_rng(1))
    np.testing.assert_allclose(table["contribution_r_halves"], 10 / 11, atol=0.03)
    # Weights without anything in common.
    assert (table["weight_r_halves"].abs() < 0.3).all()


def test_enrichment_can_be_told_from_the_two_tables() -> None:
    """log2(mean_weight / load); an expert at the brain's edge has a smaller load than in tokens."""
    cohort = _random_cohort(5)
    brain = OVERLAP.served_rt.sum(axis=0)
    weights = np.full(cohort.weights_pte.shape, 0.1)
    edge = brain < np.median(brain)
    weights[:, edge, 0], weights[:, ~edge, 1], weights[..., 2] = 0.8, 0.8, 0.1
    skewed = _cohort(weights, cohort.years_pte)
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
    weights = np.stack([_weights(rng)[:, 0] for _ in range(20)])
    table = expert_table(_cohort(weights, years, chronological_age=ages), OVERLAP, rng)
    assert (table["on_age_r_halves"] > 0.95).all()
    assert (table["contribution_r_halves"] < 0).all()
    np.testing.assert_allclose(table["on_age_r_seeds"], 1.0)
    np.testing.assert_allclose(table["contribution_on_age"], slopes.sum(axis=0), atol=0.02)
    unknown = expert_table(_cohort(weights, years), OVERLAP, rng)
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


# Effects


def test_age_is_found_where_it_was_planted_and_gap_nowhere() -> None:
    ages = np.linspace(20, 80, 24)
    cohort = _random_cohort(24, chronological_age=ages)
    years = cohort.years_pte.copy()
    years[:, SPOT, 0] += 0.01 * (ages - 50)
    changed = _cohort(cohort.weights_pte, years, chronological_age=ages)
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
    cohort = _random_cohort(8, chronological_age=ages)
    effect = measure_effects(cohort, None, 9, 0)[0]
    line = linregress(ages, cohort.weights_pte[:, SPOT, 1].astype(float))
    assert effect.t_tv[SPOT, 2] == pytest.approx(line.slope / line.stderr, rel=1e-4)
    of_years = linregress(ages, cohort.years_pte[:, SPOT, 1].astype(float))
    assert effect.years_te[SPOT, 1] == pytest.approx(of_years.slope, rel=1e-4)


def test_what_effects_add_over_the_brain_is_what_they_add_to_the_age() -> None:
    """Along age, the slope of predicted ages; a year of gap at equal age is a year."""
    ages = np.linspace(20, 70, 12)
    site = ["a", "b"] * 6
    cohort = _random_cohort(12, chronological_age=ages, site=site)
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
    cohort = _random_cohort(16, chronological_age=ages)
    # Maps as smooth as real ones: a token's neighbours say much the same.
    apart = np.linalg.norm(TOKENS.centres_mm[:, None] - TOKENS.centres_mm[None], axis=-1)
    near = np.exp(-((apart / 30.0) ** 2))
    smooth = np.einsum("ts,pse->pte", near / near.sum(axis=1, keepdims=True), cohort.years_pte)
    least = []
    for number in range(200):
        shuffled = _cohort(cohort.weights_pte, smooth, chronological_age=rng.permutation(ages))
        effect = measure_effects(shuffled, None, 39, number)[0]
        least.append(10.0 ** -effect.logp_tv.max())
    # One in 40 is the smallest p there is, and 2 in 40 is 0.05.
    assert 1 <= np.count_nonzero(np.array(least) < 0.051) <= 20


def test_groups_are_told_apart_where_they_differ() -> None:
    group = ["a", "b"] * 8
    cohort = _random_cohort(16)
    weights = cohort.weights_pte.copy()
    weights[1::2, SPOT] = [0.0, 0.1, 0.9]
    effects = measure_effects(_cohort(weights, cohort.years_pte, site=group), "site", 199, 0)
    assert [e.name for e in effects] == ["group-b"]
    assert "at equal" not in effects[0].meaning
    assert effects[0].logp_tv[SPOT, 3] > 2
    assert effects[0].t_tv[SPOT, 3] > 0 > effects[0].t_tv[SPOT, 1]


def test_of_three_groups_each_is_held_against_the_others_at_equal_age() -> None:
    ages = np.linspace(30, 60, 12)
    cohort = _random_cohort(12, chronological_age=ages, site=list("abc") * 4)
    names = [e.name for e in measure_effects(cohort, "site", 9, 0)]
    assert names == ["age", "gap", "group-a", "group-b", "group-c"]
    assert measure_effects(cohort, "site", 9, 0)[2].meaning.endswith("at equal chronological age")


def test_weights_that_never_vary_have_no_effect() -> None:
    cohort = _random_cohort(8, chronological_age=np.arange(20.0, 28.0))
    weights = cohort.weights_pte.copy()
    weights[..., 0] = 0.25
    effect = measure_effects(_replaced(cohort, weights_pte=weights), None, 9, 0)[0]
    assert (effect.t_tv[:, 1] == 0).all()
    assert np.isfinite(effect.t_tv).all()


@pytest.mark.parametrize("column", ["no such", "site", "lonely", "scans"])
def test_groups_that_tell_nobody_apart_are_refused(column: str) -> None:
    cohort = _random_cohort(8, site=["x"] * 8, lonely=["a"] * 7 + ["b"])
    with pytest.raises(UsageError, match=f"--groups {column}: must"):
        measure_effects(cohort, column, 9, 0)


def test_without_ages_there_is_no_effect_to_measure() -> None:
    assert measure_effects(_random_cohort(8), None, 9, 0) == []


# The command


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["participant_id\tage\tsite"]
    for number in range(8):
        _write(tmp_path / "run", f"sub-{number}", _weights(rng), _years(rng))
        rows.append(f"sub-{number}\t{30 + 5 * number}\t{'xy'[number % 2]}")
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def _maps(folder: Path, *more: str) -> int:
    quick = ("--permutations", "19", "--surrogates", "19")
    return main(["maps", str(folder / "run"), "--out", str(folder / "maps"), *quick, *more])


def test_the_command_writes_maps_that_add_up(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(predictions / "participants.tsv")
    assert _maps(predictions, "--participants", table, "--groups", "site") == 0
    out = predictions / "maps"
    told, warned = capsys.readouterr()
    assert "8 participants, 8 scans." in told
    assert warned.count("note") == 1
    assert "19 surrogates are too few for" in warned
    effects = ["age", "gap", "group-y"]
    assert {path.name for path in out.iterdir()} == {
        "maps.json",
        "maps.html",
        "experts.tsv",
        "regions.tsv",
        "effects.tsv",
        "participants.tsv",
        "group_desc-atlas_dseg.nii.gz",
        "group_desc-experts_probseg.nii.gz",
        "group_desc-experts_dseg.nii.gz",
        "group_desc-experts_dseg.tsv",
        "group_desc-experts_stat-sd_map.nii.gz",
        "group_desc-contribution_map.nii.gz",
        "group_desc-contribution_stat-sd_map.nii.gz",
        *(
            f"group_effect-{e}_stat-{s}_map.nii.gz"
            for e in effects
            for s in ("effect", "t", "logp")
        ),
    }
    assert all(str(path) in told for path in out.iterdir())
    content = json.loads((out / "maps.json").read_text(encoding="utf-8"))
    ages = [
        json.loads(path.read_text(encoding="utf-8"))["predicted_age"]
        for path in (predictions / "run").glob("*.json")
    ]
    years = nib.load(out / "group_desc-contribution_map.nii.gz").get_fdata().sum()
    assert years + content["baseline_years"] == pytest.approx(np.mean(ages), abs=1e-4)
    assert content["mean_predicted_age"] == pytest.approx(np.mean(ages))
    weights = nib.load(out / "group_desc-experts_probseg.nii.gz").get_fdata()
    brain = template("desc-brain_mask").data > 0
    np.testing.assert_allclose(weights.sum(axis=-1), brain, atol=1e-5)
    winners = np.asanyarray(nib.load(out / "group_desc-experts_dseg.nii.gz").dataobj)
    np.testing.assert_array_equal(winners, np.where(brain, weights.argmax(axis=-1) + 1, 0))
    slope = nib.load(out / "group_effect-age_stat-effect_map.nii.gz").get_fdata().sum()
    known = pd.read_csv(out / "participants.tsv", sep="\t")
    line = np.polyfit(known["chronological_age"], known["predicted_age"], 1)
    assert slope == pytest.approx(line[0], abs=1e-4)
    assert content["out_of_fold"] is False
    # Routing, means and slopes of three experts in each region; nobody's 19 surrogates reach far.
    assert content["region_tests"] == 3 * 3 * len(load_atlas().labels)
    assert content["smallest_q"] == 1.0
    assert content["effect_channels"] == ["contribution", "csf", "free_1", "free_2"]
    t_map = nib.load(out / "group_effect-age_stat-t_map.nii.gz")
    assert t_map.shape == (*MODEL_GRID.shape, 4)
    assert content["atlas_sampling"] == load_atlas().sampling
    regions = pd.read_csv(out / "regions.tsv", sep="\t")
    assert len(regions) == 3 * (len(load_atlas().labels) + 1)
    people = pd.read_csv(out / "participants.tsv", sep="\t")
    expected = read_participants(Path(table)).table["age"]
    assert people["chronological_age"].tolist() == expected.tolist()


def test_the_same_seed_gives_the_same_bytes_and_nothing_is_replaced_unasked(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _maps(predictions, "--atlas", "ICBMTissue") == 0
    before = {p.name: p.read_bytes() for p in (predictions / "maps").iterdir()}
    (predictions / "maps" / "maps.html").unlink()
    assert main(["report", str(predictions / "maps")]) == 0
    assert {p.name: p.read_bytes() for p in (predictions / "maps").iterdir()} == before
    assert _maps(predictions, "--atlas", "ICBMTissue") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert _maps(predictions, "--atlas", "ICBMTissue", "--overwrite") == 0
    assert {p.name: p.read_bytes() for p in (predictions / "maps").iterdir()} == before


def test_whoever_the_table_lacks_is_left_out_of_comparisons_and_told(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = predictions / "participants.tsv"
    rows = table.read_text(encoding="utf-8").splitlines()
    # Without sub-3; and with a column that results have a name for.
    columns = ["scans", *("9" for _ in rows[1:])]
    wider = [f"{row}\t{cell}" for row, cell in zip(rows, columns, strict=True)]
    table.write_text("\n".join(wider[:4] + wider[5:]) + "\n", encoding="utf-8")
    asked = ("--participants", str(table), "--atlas", "ICBMTissue", "--groups")
    assert _maps(predictions, *asked, "scans") == 2
    assert "a name of the results' own" in capsys.readouterr().err
    assert _maps(predictions, *asked, "site") == 0
    said = capsys.readouterr().err
    # Beside what is said of the surrogates.
    assert said.count("note") == 3
    assert "found none of 1 (3)" in said
    assert "a name of the results' own; found scans, which were left out" in said
    content = json.loads((predictions / "maps" / "maps.json").read_text(encoding="utf-8"))
    assert (content["participants"], content["scans"]) == (8, 8)
    assert {e["participants"] for e in content["effects"].values()} == {7}


def test_a_call_leaves_nothing_of_an_earlier_one(predictions: Path) -> None:
    table = str(predictions / "participants.tsv")
    quick = ("--atlas", "ICBMTissue")
    assert _maps(predictions, *quick, "--participants", table, "--groups", "site") == 0
    out = predictions / "maps"
    (out / "group_notes.txt").write_text("mine", encoding="utf-8")
    # A call that is refused touches nothing.
    before = {path.name for path in out.iterdir()}
    asked = ("--overwrite", "--participants", table, "--groups", "no such")
    assert _maps(predictions, *quick, *asked) == 2
    assert {path.name for path in out.iterdir()} == before
    # All are 40 years old now, and of no site: neither effects nor their table are left.
    assert _maps(predictions, *quick, "--overwrite") == 0
    after = {path.name for path in out.iterdir()}
    gone = {name for name in before if name.startswith("group_effect-")} | {"effects.tsv"}
    assert len(gone) == 10
    assert after == before - gone


def test_groups_of_like_names_have_maps_of_their_own() -> None:
    """A+, A- and A? are one name in letters; a and A are one file on some systems."""
    names = ["age", "group-A+", "group-A-", "group-A?", "group-A--2", "group-x", "group-X"]
    assert effect_stems(names) == [
        f"group_effect-{stem}"
        for stem in ("age", "group-A--1", "group-A--3", "group-A--4", "group-A--2")
    ] + ["group_effect-group-x-1", "group_effect-group-X-2"]


def test_each_of_three_groups_of_like_names_is_written(predictions: Path) -> None:
    table = predictions / "participants.tsv"
    rows = table.read_text(encoding="utf-8").splitlines()
    for number, row in enumerate(rows[1:]):
        rows[1 + number] = f"{row.rsplit(chr(9), 1)[0]}\t{('A+', 'A-', 'A?')[number % 3]}"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    asked = ("--participants", str(table), "--groups", "site", "--atlas", "ICBMTissue")
    assert _maps(predictions, *asked) == 0
    out = predictions / "maps"
    content = json.loads((out / "maps.json").read_text(encoding="utf-8"))
    files = [e["files"] for name, e in content["effects"].items() if name.startswith("group-")]
    maps = [nib.load(out / name.replace("*", "effect")).get_fdata() for name in files]
    assert len(maps) == 3
    assert not any(np.array_equal(a, b) for a, b in combinations(maps, 2))


def test_people_of_a_run_have_the_model_s_interval_and_the_ages_at_their_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entered at 40 by the table, scanned at 44; predicted 50 with 6 years on either side."""
    rows = pd.DataFrame({"participant_id": ["a"], "session_id": ["2"], "chronological_age": [44.0]})
    made = _random_cohort(1)

    def cohort(participants: Participants | None) -> CohortMaps:
        people = gather_people(_scans(rows), [50.0], participants)
        return _replaced(made, people=people.table, remarks=people.remarks, out_of_fold=True)

    run = SimpleNamespace(table=rows, cohort=cohort)
    (tmp_path / "model.json").touch()
    monkeypatch.setattr("ermoe_ba.attribution.out_of_fold.read_out_of_fold", lambda _: run)
    card = SimpleNamespace(half_width=6.0)
    monkeypatch.setattr("ermoe_ba.model_card.read_card", lambda _: card)
    given = Participants(pd.DataFrame({"age": [40.0]}, index=["a"]))
    for participants, remarks in ((given, 1), (None, 0)):
        read = _cohort_of(tmp_path, participants)
        (row,) = read.people.to_dict("records")
        assert (row["chronological_age"], row["brain_age_gap"]) == (44.0, 6.0)
        assert (row["predicted_age_lower"], row["predicted_age_upper"]) == (44.0, 56.0)
        assert len(read.remarks) == remarks


def test_groups_need_a_table(predictions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _maps(predictions, "--groups", "site") == 2
    assert "--participants" in capsys.readouterr().err


def test_what_experts_are_worth_is_asked_of_the_model_that_predicted(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder's predictions are of m-1: nobody ships it, and the shipped one did not make it."""
    assert _maps(predictions) == 0
    assert "its card does not" in (predictions / "maps" / "maps.html").read_text("utf-8")
    capsys.readouterr()
    assert _maps(predictions, "--model", DEFAULT_MODEL, "--overwrite") == 2
    said = capsys.readouterr().err
    assert "must be the model that predicted, m-1; found ixi-hh-" in said
    # Refused before anything of the earlier maps was touched.
    assert (predictions / "maps" / "maps.html").is_file()


def test_the_table_of_experts_says_what_is_lost_without_each(tmp_path: Path) -> None:
    card = read_card(model_folder(DEFAULT_MODEL))
    names = card.model.expert_names
    rng = np.random.default_rng(0)
    shape = (3, len(TOKENS), len(names))
    cohort = replace(
        _random_cohort(3),
        experts=pd.DataFrame({"index": range(1, 6), "name": names, "kind": "free"}),
        weights_pte=rng.dirichlet(np.ones(5), shape[:2]).astype(np.float32),
        years_pte=rng.normal(0, 0.02, shape).astype(np.float32),
        member_weights_mte=np.full((3, *shape[1:]), 0.2),
        member_years_mte=np.zeros((3, *shape[1:])),
    )
    quick = {"group_column": None, "permutations": 9, "surrogates": 9, "seed": 0}
    known = write_group_maps(cohort, _quarters(), tmp_path / "known", **quick, card=card)
    table = pd.read_csv(tmp_path / "known" / "experts.tsv", sep="\t")
    assert table["expert"].tolist() == list(names)
    figures = np.array(card.metrics["probe_mae_without_expert"])
    np.testing.assert_allclose(table["mae_without"], figures)
    np.testing.assert_allclose(table["mae_lost"], figures - card.metrics["probe_mae"])
    assert known.description["model_mae"] == card.metrics["probe_mae"]
    assert known.description["model_mae_interfered"] == card.mae_interfered
    trained = pd.read_csv(tmp_path / "known" / "training_ages.tsv", sep="\t")
    np.testing.assert_allclose(trained["chronological_age"], card.ages)
    np.testing.assert_allclose(trained["predicted_age"], card.predictions)
    assert known.description["training_participants"] == len(card.ages)
    assert known.description["coverage"] == card.coverage
    # The people of a run are the training participants themselves, and shown already.
    own = write_group_maps(
        _replaced(cohort, out_of_fold=True), _quarters(), tmp_path / "known", **quick, card=card
    )
    assert own.description["training_participants"] == 0
    assert not (tmp_path / "known" / "training_ages.tsv").exists()
    unknown = write_group_maps(cohort, _quarters(), tmp_path / "unknown", **quick)
    assert unknown.description["coverage"] is None
    assert unknown.tables["experts.tsv"][["mae_without", "mae_lost"]].isna().all(axis=None)
    assert unknown.description["model_mae"] is None


def test_the_shipped_model_s_card_is_found_by_the_name_in_its_predictions(tmp_path: Path) -> None:
    folder = model_folder(DEFAULT_MODEL)
    card = read_card(folder)
    identity = model_identity(folder, card)
    found = _card(tmp_path, identity, None)
    assert found is not None
    assert found.mae_with_all_experts == card.metrics["probe_mae"]
    without = found.mae_without_expert
    assert list(without.values()) == card.metrics["probe_mae_without_expert"]
    assert found.mae_interfered == {
        "zeroed": card.metrics["probe_mae_zeroed"][0],
        "random_routing": card.metrics["probe_mae_random_routing"],
        "other_subject_routing": card.metrics["probe_mae_other_subject_routing"],
    }
    assert tuple(without) == card.model.expert_names
    # Earlier weights of the same name: their figures are not these.
    assert _card(tmp_path, "ixi-hh-000000000000", None) is None
    # A run's own card stands in it, and no other may be given.
    shutil.copy(folder / "model.json", tmp_path)
    assert _card(tmp_path, "any", None) == card
    with pytest.raises(UsageError, match="leave --model out"):
        _card(tmp_path, "any", DEFAULT_MODEL)
