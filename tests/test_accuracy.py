"""Accuracy by decade and group, calibration of predictions, and ages corrected for age."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_rows import MakeRows, make_rows

from ermoe_ba.evaluation.accuracy import accuracy
from ermoe_ba.evaluation.age_bias import correct_age_bias
from ermoe_ba.evaluation.calibration import regression_calibration

# Fixtures, which pytest finds by name.
__all__ = ["make_rows"]


def test_the_worst_decade_is_not_that_of_a_single_unlucky_person(make_rows: MakeRows) -> None:
    """Six in their 30s err by 4 years, six in their 50s by 1 to 3, one of 81 by 20."""
    ages = np.array([30.0, 31, 32, 33, 34, 39.9, 50, 51, 52, 53, 54, 59, 81])
    gaps = np.array([4.0, -4, 4, -4, 4, -4, 1, 1, 2, 2, 3, 3, 20])
    found = accuracy(make_rows(ages, ages + gaps))
    assert [g["group"] for g in found["by_decade"]] == ["30", "50", "80"]
    assert [g["num_rows"] for g in found["by_decade"]] == [6, 6, 1]
    assert [g["mae"]["value"] for g in found["by_decade"]] == pytest.approx([4, 2, 20])
    assert found["by_decade"][0]["bias"]["value"] == pytest.approx(0)
    assert found["by_decade"][2]["mae"]["lower"] is None
    assert found["worst_decade"] == "30"


def test_where_all_decades_are_small_the_worst_of_them_is_named(make_rows: MakeRows) -> None:
    ages = np.array([25.0, 45, 65])
    assert accuracy(make_rows(ages, ages + np.array([1, -3, 2])))["worst_decade"] == "40"


def test_unknown_sex_is_a_group_and_a_missing_column_is_none(make_rows: MakeRows) -> None:
    ages = np.array([20.0, 30, 40, 50])
    sexes = np.array(["F", "M", "n/a", "F"])
    found = accuracy(make_rows(ages, ages + np.array([1, 2, 3, 5]), groups={"sex": sexes}))
    by_sex = {g["group"]: g["mae"]["value"] for g in found["by_sex"]}
    assert by_sex == pytest.approx({"F": 3, "M": 2, "n/a": 3})
    assert "by_site" not in found


def test_scans_and_people_of_a_group_are_counted_apart(make_rows: MakeRows) -> None:
    ages = np.array([20.0, 21, 22, 55])
    people = np.array(["a", "a", "b", "c"])
    group = accuracy(make_rows(ages, ages, participants=people, folds=np.array([0, 0, 1, 1])))[
        "by_decade"
    ][0]
    assert (group["num_rows"], group["num_participants"]) == (3, 2)


def test_predictions_that_spread_twice_too_far_have_a_slope_of_a_half(make_rows: MakeRows) -> None:
    """predicted = 2 age - 45, so age = 22.5 + predicted / 2."""
    ages = np.array([25.0, 31, 38, 44, 52, 60, 73])
    found = regression_calibration(make_rows(ages, 2 * ages - 45))
    for name, expected in (("slope", 0.5), ("intercept", 22.5)):
        assert found[name]["value"] == pytest.approx(expected)
        # A line without error is the same in each sample.
        assert found[name]["lower"] == pytest.approx(expected)
    # Seven in five parts: 2, 2, 1, 1, 1; the first has ages 25 and 31, answers 5 and 17.
    assert [part["num_rows"] for part in found["parts"]] == [2, 2, 1, 1, 1]
    first = found["parts"][0]
    assert (first["predicted_from"], first["predicted_to"]) == (5, 17)
    assert (first["mean_predicted"], first["mean_chronological"]) == (11, 28)
    assert first["difference"]["value"] == pytest.approx(-17)


def test_parts_hold_as_many_people_however_often_they_were_scanned(make_rows: MakeRows) -> None:
    """Six scans of the youngest and one each of four others: fifths are a person each."""
    ages = np.array([61.0, 30, 31, 32, 33, 34, 35, 41, 51, 71])
    people = np.array(["c", *["young"] * 6, "a", "b", "d"])
    found = regression_calibration(make_rows(ages, ages + 1, participants=people))["parts"]
    assert [part["num_rows"] for part in found] == [6, 1, 1, 1, 1]
    assert [part["predicted_from"] for part in found] == [31, 42, 52, 62, 72]


def test_a_constant_answer_has_no_calibration_slope(make_rows: MakeRows) -> None:
    found = regression_calibration(make_rows(np.arange(20.0, 60, 5), np.full(8, 47.3)))
    assert found["slope"] == {"value": None, "lower": None, "upper": None}


def test_a_line_is_taken_out_whole(make_rows: MakeRows) -> None:
    """predicted = 10 + 0.8 age: both corrections return the age; unequal folds of 2, 2 and 4."""
    ages = np.array([20.0, 31, 45, 52, 60, 66, 71, 80])
    folds = np.array([0, 1, 0, 2, 2, 1, 2, 2])
    corrected = correct_age_bias(make_rows(ages, 10 + 0.8 * ages, folds=folds))
    for method in ("cole", "beheshti"):
        np.testing.assert_allclose(corrected.ages[method], ages)
        assert corrected.report[method]["gap_slope"]["value"] == pytest.approx(0, abs=1e-9)
    for fold, others in zip(corrected.report["parameters"], (6, 6, 4), strict=True):
        assert fold["slope"] == pytest.approx(0.8)
        assert fold["intercept"] == pytest.approx(10)
        assert fold["num_rows"] == others


def test_corrections_follow_their_formulas(make_rows: MakeRows) -> None:
    """The other fold's three people give slope and intercept by hand.

    Ages 20, 40, 60, predicted 30, 40, 44: slope (-20 x -8 + 20 x 6) / 800 = .35, mean 38, intercept
    38 - .35 x 40 = 24. A person of 50 predicted 45: Cole (45 - 24) / .35 = 60. Expected at 50 is
    41.5, a gap of -8.5: Beheshti 53.5, and so 45 + 50 - 41.5 of de Lange and Cole.
    """
    ages, predicted = np.array([20.0, 40, 60, 50, 30]), np.array([30.0, 40, 44, 45, 30])
    folds = np.array([0, 0, 0, 1, 1])
    corrected = correct_age_bias(make_rows(ages, predicted, folds=folds))
    assert corrected.report["parameters"][1]["slope"] == pytest.approx(0.35)
    assert corrected.report["parameters"][1]["intercept"] == pytest.approx(24)
    assert corrected.ages["cole"][3] == pytest.approx(60)
    assert corrected.ages["beheshti"][3] == pytest.approx(45 + 50 - 41.5)


def test_no_fold_is_corrected_by_its_own_ages(make_rows: MakeRows) -> None:
    random = np.random.default_rng(3)
    ages = random.uniform(20, 80, 31)
    rows = make_rows(ages, 0.7 * ages + random.normal(15, 5, 31))
    first = rows.folds == 0
    moved = replace(rows, predicted=rows.predicted + np.where(first, 0.5 * ages, 0))
    before = correct_age_bias(rows).report["parameters"]
    after = correct_age_bias(moved).report["parameters"]
    assert after[0] == before[0]
    assert after[1]["slope"] > before[1]["slope"]
    assert after[2]["slope"] > before[2]["slope"]


def _keys(content: object) -> set[str]:
    if isinstance(content, dict):
        return set(content).union(*map(_keys, content.values()))
    return set().union(*map(_keys, content)) if isinstance(content, list) else set()


def test_the_trap_of_corrected_accuracy_is_not_stepped_into(make_rows: MakeRows) -> None:
    """A predictor that knows nothing looks excellent once corrected: nobody is told so."""
    random = np.random.default_rng(4)
    ages = random.uniform(20, 80, 300)
    rows = make_rows(ages, 50 + random.normal(0, 3, 300))
    corrected = correct_age_bias(rows)
    # The trap is there: error of 2.4 years (3 x the root of 2 / pi) and a correlation near 1.
    assert np.abs(corrected.ages["beheshti"] - ages).mean() == pytest.approx(2.4, abs=0.3)
    assert np.corrcoef(corrected.ages["beheshti"], ages)[0, 1] > 0.98
    assert not _keys(corrected.report) & {"mae", "rmse", "r", "r2"}
    assert "must not be quoted" in corrected.report["note"]
    assert accuracy(rows)["overall"]["r"]["value"] == pytest.approx(0, abs=0.15)
    assert accuracy(rows)["overall"]["mae"]["value"] > 13


def test_predictions_that_fall_with_age_are_not_stretched(make_rows: MakeRows) -> None:
    ages = np.arange(20.0, 80, 4)
    corrected = correct_age_bias(make_rows(ages, 90 - 0.5 * ages))
    assert np.isnan(corrected.ages["cole"]).all()
    assert "cole" not in corrected.report
    np.testing.assert_allclose(corrected.ages["beheshti"], ages)
