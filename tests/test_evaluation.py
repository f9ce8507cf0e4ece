"""What predicted ages are worth: figures worked by hand, and folds that never judge themselves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor

from ermoe_ba.cohort import Participants
from ermoe_ba.errors import UsageError
from ermoe_ba.evaluation.accuracy import accuracy
from ermoe_ba.evaluation.age_bias import correct_age_bias
from ermoe_ba.evaluation.bootstrap import estimates
from ermoe_ba.evaluation.calibration import regression_calibration
from ermoe_ba.evaluation.out_of_fold import OutOfFold, read_out_of_fold
from ermoe_ba.evaluation.prediction_intervals import (
    LEVELS,
    METHODS,
    conformal_intervals,
    interval_calibration,
)
from ermoe_ba.intervals import conformal_half_width
from ermoe_ba.metrics import age_figures, age_metrics
from ermoe_ba.space import Array

MakeRows = Callable[..., OutOfFold]


@pytest.fixture
def make_rows() -> MakeRows:
    """Rows from ages; by default each its own participant, dealt to folds in turn."""

    def make(
        chronological: Array,
        predicted: Array,
        *,
        participants: Array | None = None,
        folds: Array | None = None,
        num_folds: int = 3,
        groups: dict[str, Array] | None = None,
    ) -> OutOfFold:
        count = len(chronological)
        names = [f"{number:04d}" for number in range(count)]
        folds = np.arange(count) % num_folds if folds is None else folds
        return OutOfFold(
            source=pd.DataFrame(index=range(count)),
            used=np.ones(count, dtype=bool),
            left_out={},
            participants=np.array(names if participants is None else participants),
            folds=folds,
            fold_names=tuple(str(fold) for fold in np.unique(folds)),
            folds_given=True,
            chronological=np.asarray(chronological, dtype=float),
            predicted=np.asarray(predicted, dtype=float),
            groups=groups or {},
            given_interval=None,
        )

    return make


# Figures with weights, and their intervals


def test_a_row_drawn_twice_counts_as_two_rows() -> None:
    ages, predicted = np.array([20.0, 40, 60, 75]), np.array([26.0, 42, 52, 70])
    weighted = age_figures(ages, predicted, np.array([[2.0, 1, 1, 0], [1, 1, 1, 1]]))
    times = np.array([0, 0, 1, 2])
    repeated = age_figures(ages[times], predicted[times], np.ones((1, 4)))
    for name, values in weighted.items():
        assert values[0] == pytest.approx(repeated[name][0]), name
    # Gaps 6, 6, 2, -8: MAE 22 / 4, bias 6 / 4.
    assert weighted["mae"][0] == pytest.approx(5.5)
    assert weighted["bias"][0] == pytest.approx(1.5)


def test_rows_of_one_age_have_no_correlation_and_no_slope() -> None:
    figures = age_figures(np.full(3, 41.7), np.array([40.0, 43, 45]), np.array([[1.0, 5, 2]]))
    assert np.isnan([figures[name][0] for name in ("r", "r2", "gap_slope")]).all()
    assert figures["mae"][0] == pytest.approx((1.7 + 5 * 1.3 + 2 * 3.3) / 8)


def _mean_of(values: Array) -> Callable[[Array], dict[str, Array]]:
    return lambda weights_bn: {"mean": weights_bn @ values / weights_bn.sum(axis=-1)}


def _width(values: Array, participants: Array) -> float:
    found = estimates(_mean_of(values), participants)["mean"]
    assert found["lower"] is not None
    assert found["upper"] is not None
    return found["upper"] - found["lower"]


def test_the_interval_of_a_mean_is_the_textbooks() -> None:
    """Of 400 draws: 2 x 1.96 standard deviations over the root of 400; 5 % for the resampling."""
    values = np.random.default_rng(0).normal(3, 7, 400)
    expected = 2 * 1.96 * values.std() / 20
    assert _width(values, np.arange(400)) == pytest.approx(expected, rel=0.05)


def test_three_equal_scans_of_a_person_are_evidence_of_one() -> None:
    """Taken for independent they would narrow the interval by the root of three."""
    values = np.repeat(np.random.default_rng(1).normal(0, 5, 60), 3)
    clustered = _width(values, np.repeat(np.arange(60), 3))
    independent = _width(values, np.arange(180))
    assert clustered == pytest.approx(independent * 3**0.5, rel=0.07)
    assert clustered == pytest.approx(_width(values[::3], np.arange(60)), rel=1e-9)


def test_all_rows_of_a_person_are_drawn_together_however_many() -> None:
    """Five people of 1 to 5 rows: each sample's weights are equal within a person, and add up."""
    person = np.repeat(np.arange(5), [1, 2, 3, 4, 5])
    seen = []

    def figures(weights_bn: Array) -> dict[str, Array]:
        seen.append(weights_bn)
        return {"sum": weights_bn.sum(axis=-1)}

    for shared in (True, False):
        seen.clear()
        estimates(figures, person, shared=shared)
        weights_bn = np.concatenate(seen)
        firsts = [int(np.argmax(person == number)) for number in range(5)]
        np.testing.assert_array_equal(weights_bn, weights_bn[:, firsts][:, person])
        # Five are drawn each time: the rows of a person together count one a draw, or one each.
        drawn_bk = weights_bn[:, firsts] * (np.arange(1, 6) if shared else 1)
        np.testing.assert_allclose(drawn_bk.sum(axis=1), 5, rtol=1e-12)


def test_people_count_alike_however_often_they_were_scanned(make_rows: MakeRows) -> None:
    """Nine scans of one person err by 10 years, nine people by nothing: 10 / 10, not 90 / 18.

    The nine people alone: ages 21 to 29; with the tenth, mean gap 1 and RMSE root of 10.
    """
    ages = np.array([40.0] * 9 + [21.0 + n for n in range(9)])
    gaps = np.array([10.0] * 9 + [0.0] * 9)
    people = np.array(["many"] * 9 + [f"one {n}" for n in range(9)])
    rows = make_rows(ages, ages + gaps, participants=people, groups={"sex": np.full(18, "F")})
    found = accuracy(rows)
    for group in (found["overall"], found["by_sex"][0]):
        assert group["mae"]["value"] == pytest.approx(1.0)
        assert group["bias"]["value"] == pytest.approx(1.0)
        assert group["rmse"]["value"] == pytest.approx(10**0.5)
    assert [g["mae"]["value"] for g in found["by_decade"]] == pytest.approx([0.0, 10.0])
    metrics = age_metrics(ages, ages + gaps, people)
    assert (metrics["n"], metrics["mae"]) == (18, pytest.approx(1.0))
    # Of ten people the middle lies between 25 and 26: sum of 4.5, ..., .5, .5, ..., 3.5 and 14.5.
    assert metrics["median_mae"] == pytest.approx((12.5 + 8 + 14.5) / 10)
    given = replace(rows, given_interval=np.stack([rows.predicted - 5, rows.predicted + 5]))
    held = interval_calibration(given, conformal_intervals(given))["as_given"]
    assert held["coverage"]["value"] == pytest.approx(0.9)


def test_a_scan_that_stands_three_times_changes_nothing_but_counts(make_rows: MakeRows) -> None:
    """Twelve people; the rows of every second one come three times, in the fold of the person."""
    random = np.random.default_rng(4)
    ages = random.uniform(20, 79, 12)
    predicted = 15 + 0.7 * ages + random.normal(0, 5, 12)
    times = np.repeat(np.arange(12), np.tile([1, 3], 6))
    names, folds = np.array([f"{n:02}" for n in range(12)]), np.arange(12) % 3
    once = make_rows(ages, predicted, participants=names, folds=folds)
    more = make_rows(ages[times], predicted[times], participants=names[times], folds=folds[times])

    def figures(rows: OutOfFold) -> list[float]:
        found, line = accuracy(rows), regression_calibration(rows)
        kept = [*found["overall"].values(), line["slope"], line["intercept"]]
        kept += [group["mae"] for group in found["by_decade"]]
        values = [value for estimate in kept for value in estimate.values() if value is not None]
        bias = correct_age_bias(rows).report["parameters"]
        values += [fold[name] for fold in bias for name in ("slope", "intercept")]
        for part in line["parts"]:
            values += [part["mean_predicted"], part["difference"]["value"], part["predicted_to"]]
        intervals = interval_calibration(rows, conformal_intervals(rows))
        for held in (intervals[method][0] for method in METHODS):
            values += [held["coverage"]["value"], held["mean_width"]]
            values += [g[k] for g in held["by_decade"] for k in ("coverage", "mean_width")]
        values += age_metrics(rows.chronological, rows.predicted, rows.participants).values()
        return values[:-8] + values[-7:]

    assert figures(more) == pytest.approx(figures(once), rel=1e-9)
    difficulty = conformal_intervals(once).difficulty
    np.testing.assert_allclose(conformal_intervals(more).difficulty, difficulty[times])


def test_fewer_than_five_people_have_no_interval_whatever_their_rows() -> None:
    few = estimates(_mean_of(np.arange(40.0)), np.repeat(np.arange(4), 10))["mean"]
    assert few == {"value": pytest.approx(19.5), "lower": None, "upper": None}
    five = estimates(_mean_of(np.arange(5.0)), np.arange(5))["mean"]
    assert five["lower"] is not None


def test_the_same_table_has_the_same_interval() -> None:
    values = np.random.default_rng(2).normal(size=30)
    assert _width(values, np.arange(30)) == _width(values, np.arange(30))


# Accuracy in groups


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


# Calibration


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


# Correction of the gap's dependence on age


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


# Intervals


def test_scans_of_a_person_share_that_persons_weight() -> None:
    """People a (residuals 1 and 9), b (2) and c (3): shares reached are .5, 1.5, 2.5 and 3 of 4.

    At 40 %, 1.6 of 4 is first reached at 3; counting rows alone, ceil(.4 x 5) = 2 gives 2.
    """
    residuals, people = np.array([9.0, -3, 1, 2]), np.array(["a", "c", "a", "b"])
    assert conformal_half_width(residuals, 0.4, people) == 3
    assert conformal_half_width(residuals, 0.4) == 2
    assert conformal_half_width(residuals, 0.12, people) == 1
    assert conformal_half_width(residuals, 0.75, people) == 9
    with pytest.raises(ValueError, match=r"4 residuals are too few for a coverage of 0\.8"):
        conformal_half_width(residuals, 0.8, people)


def test_thirds_and_sevenths_reach_whole_numbers() -> None:
    """Three people of 3, 7 and 1 scans, sizes rising from person to person: (K + 1) / 2 = 2."""
    people = np.repeat([0, 1, 2], [3, 7, 1])
    sizes = np.arange(1.0, 12)
    assert conformal_half_width(sizes, 0.25, people) == 3
    assert conformal_half_width(sizes, 0.5, people) == 10


def test_a_new_person_is_covered_though_the_often_scanned_are_easy() -> None:
    """One person in ten has 30 scans, and a tenth of the others' error.

    Of 60 people, rows are 180 easy and 54 hard ones: nine tenths of the rows, 211, are all easy and
    31 hard ones, so that counting rows covers 31 / 54 of the hard nine tenths of people: 62 %.
    """
    random = np.random.default_rng(5)

    def people(count: int) -> tuple[Array, Array]:
        scans = np.where(random.random(count) < 0.1, 30, 1)
        whose = np.repeat(np.arange(count), scans)
        return whose, random.normal(0, np.where(scans == 30, 0.5, 5)[whose])

    by_person, by_row = [], []
    for _ in range(300):
        whose, residuals = people(60)
        new_whose, new = people(60)
        # One scan of each new person.
        new = np.abs(new[np.unique(new_whose, return_index=True)[1]])
        by_person.append(np.mean(new <= conformal_half_width(residuals, 0.9, whose)))
        by_row.append(np.mean(new <= conformal_half_width(residuals, 0.9)))
    assert 0.89 < np.mean(by_person) < 0.93
    assert np.mean(by_row) == pytest.approx(0.62, abs=0.03)


def test_the_constant_width_is_the_other_folds_order_statistic(make_rows: MakeRows) -> None:
    """Gaps of 1 to 9 in fold 0, of 11 to 19 in fold 1; ceil(10 x .8) = 8, .9 gives 9, .95 none."""
    ages = np.linspace(20, 80, 18)
    gaps = np.concatenate([np.arange(1.0, 10), np.arange(11.0, 20)])
    rows = make_rows(ages, ages + gaps, folds=np.repeat([0, 1], 9))
    intervals = conformal_intervals(rows)
    for level, theirs, ours in ((0.8, 18, 8), (0.9, 19, 9)):
        half_width = intervals.half_widths["constant", level]
        assert half_width.tolist() == [theirs] * 9 + [ours] * 9
    found = interval_calibration(rows, intervals)
    for method in METHODS:
        assert [entry["nominal"] for entry in found[method]] == [0.8, 0.9]
    # All of fold 0 lie within 18, none of fold 1 within 8.
    eighty = found["constant"][0]
    assert eighty["coverage"]["value"] == 0.5
    assert eighty["mean_width"] == pytest.approx(18 + 8)
    # 20 to 29 of fold 0 are ages 20, 23.5, 27.1.
    assert eighty["by_decade"][0] == {
        "group": "20",
        "num_rows": 3,
        "num_covered": 3,
        "coverage": 1.0,
        "mean_width": 36.0,
    }


def test_intervals_are_as_wide_as_what_lies_above_0(make_rows: MakeRows) -> None:
    """Half-widths of 18 and 8 as above; people of 20 and 60 whose brains look younger.

    Predicted 19, 18, .., 11: ends at 1 and 37, at 0 and 36, then cut at 0 and 35, 34, .., 29.
    """
    gaps = np.concatenate([np.arange(1.0, 10), np.arange(11.0, 20)])
    ages = np.repeat([20.0, 60.0], 9)
    rows = make_rows(ages, ages - gaps, folds=np.repeat([0, 1], 9))
    eighty = interval_calibration(rows, conformal_intervals(rows))["constant"][0]
    young, old = eighty["by_decade"]
    assert young["mean_width"] == pytest.approx((36 + 36 + 35 + 34 + 33 + 32 + 31 + 30 + 29) / 9)
    assert old["mean_width"] == pytest.approx(16)
    # Nobody is younger than 0: what is cut away held nobody.
    assert (young["num_covered"], old["num_covered"]) == (9, 0)


def test_no_fold_sets_its_own_intervals(make_rows: MakeRows) -> None:
    """Ages of fold 0 are moved, so that its gaps grow: its own widths stay, the others' grow."""
    random = np.random.default_rng(6)
    ages = random.uniform(20, 80, 91)
    rows = make_rows(ages, ages + random.normal(0, 5, 91))
    first = rows.folds == 0
    moved = replace(rows, chronological=np.where(first, ages + 30, ages))
    before, after = conformal_intervals(rows), conformal_intervals(moved)
    np.testing.assert_array_equal(after.difficulty[first], before.difficulty[first])
    assert (after.difficulty[~first] > before.difficulty[~first]).all()
    for key, half_width in before.half_widths.items():
        np.testing.assert_array_equal(after.half_widths[key][first], half_width[first])
    assert (after.half_widths["constant", 0.9] > before.half_widths["constant", 0.9])[~first].all()


def test_a_calibrating_row_does_not_know_its_own_difficulty(make_rows: MakeRows) -> None:
    """With one neighbour, a row that knew itself would always be as difficult as it errs.

    Six people: a quarter is one neighbour. Factors would all be 1, and a new row that errs more
    than its neighbour never be covered.
    """
    ages = np.array([20.0, 30, 40, 50, 60, 70, 25, 35, 45, 55, 65, 75])
    gaps = np.array([1.0, 4, 2, 8, 1, 3, 2, 3, 1, 5, 2, 6])
    rows = make_rows(ages, ages + gaps, folds=np.repeat([0, 1], 6))
    intervals = conformal_intervals(rows)
    factor = intervals.half_widths["local", 0.8] / intervals.difficulty
    assert (factor > 1.5).all()


@pytest.mark.parametrize(("elsewhere", "difficulty"), [(0, (12 + 2) / 2), (3, (6 + 2 + 3) / 2)])
def test_a_difficulty_is_that_of_people_near_by_and_not_of_scans(
    make_rows: MakeRows, elsewhere: int, difficulty: float
) -> None:
    """Eight other people, of whom a quarter is two; the nearest was scanned six times, always hard.

    With all six scans near, that person's gap of 12 counts as one of two people, and the next one's
    gap of 2 as the other. With half of them elsewhere, half of the 12 counts, all of the 2, and
    half of the third one's 6. Counting scans, all neighbours would err by 12.
    """
    predicted = np.array([50.0, *[50.5] * (6 - elsewhere), *[90.0] * elsewhere, 52, 54])
    predicted = np.concatenate([predicted, [20, 21, 22, 23, 24]])
    gaps = np.array([0.0, *[12.0] * 6, 2, 6, *[1.0] * 5])
    people = np.array(["new", *["often"] * 6, *"abcdefg"])
    rows = make_rows(
        predicted - gaps, predicted, participants=people, folds=np.array([0, *[1] * 13])
    )
    assert conformal_intervals(rows).difficulty[0] == pytest.approx(difficulty + 0.01)


def test_with_one_scan_a_person_neighbours_are_those_of_the_library(make_rows: MakeRows) -> None:
    """To the last digit, ties among them; calibrating rows in ten parts, each from the others."""
    random = np.random.default_rng(9)
    ages = random.uniform(20, 80, 150)
    rows = make_rows(ages, np.round(ages + random.normal(0, 5, 150)), num_folds=2)
    intervals = conformal_intervals(rows)
    here, others = rows.folds == 0, rows.folds == 1
    predicted, sizes = rows.predicted[others, None], np.abs(rows.gap[others])
    # A quarter of 75 people.
    model = KNeighborsRegressor(18)
    theirs = 0.01 + cross_val_predict(
        model, predicted, sizes, groups=rows.participants[others], cv=GroupKFold(10)
    )
    new = 0.01 + model.fit(predicted, sizes).predict(rows.predicted[here, None])
    np.testing.assert_array_equal(intervals.difficulty[here], new)
    factor = conformal_half_width(sizes / theirs, 0.9)
    np.testing.assert_array_equal(intervals.half_widths["local", 0.9][here], factor * new)


def test_calibrating_people_are_parted_alike_however_often_they_were_scanned(
    make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty people, one scanned a hundred times: parts of two people, not one person and 19."""
    told: list[int] = []

    class Counted(GroupKFold):
        def split(self, rows: Array, groups: Array) -> Any:  # type: ignore[override]
            for learnt, asked in super().split(rows, groups=groups):
                told.append(len(np.unique(groups[asked])))
                yield learnt, asked

    monkeypatch.setattr("ermoe_ba.evaluation.prediction_intervals.GroupKFold", Counted)
    people = np.array([*["often"] * 100, *[f"{n:02}" for n in range(19)], *"xyz"])
    ages = np.linspace(20, 80, len(people))
    folds = np.repeat([0, 1], [119, 3])
    conformal_intervals(make_rows(ages, ages + 1, participants=people, folds=folds))
    # For fold 1 the twenty people are parted, for fold 0 the three.
    assert sorted(told) == [1] * 3 + [2] * 10


def test_local_intervals_are_wide_where_it_is_difficult(make_rows: MakeRows) -> None:
    """Errors of 1 year below 50 and of 6 above: one width suits neither, two suit both."""
    random = np.random.default_rng(7)
    ages = random.uniform(20, 80, 600)
    hard = ages > 50
    rows = make_rows(ages, ages + random.normal(0, np.where(hard, 6.0, 1.0)), num_folds=5)
    intervals = conformal_intervals(rows)
    constant, local = (intervals.half_widths[method, 0.9] for method in METHODS)
    covered = np.abs(rows.gap) <= constant
    assert covered[~hard].all()
    assert covered[hard].mean() < 0.86
    covered = np.abs(rows.gap) <= local
    # Three standard errors of a share of .9 in 300.
    assert covered[hard].mean() == pytest.approx(0.9, abs=0.052)
    assert covered.mean() == pytest.approx(0.9, abs=0.037)
    assert np.median(local[hard]) > 3 * np.median(local[~hard])
    assert local.mean() < constant.mean()


def test_levels_are_met_where_rows_are_alike(make_rows: MakeRows) -> None:
    random = np.random.default_rng(8)
    ages = random.uniform(20, 80, 1000)
    rows = make_rows(ages, ages + random.standard_t(3, 1000), num_folds=5)
    found = interval_calibration(rows, conformal_intervals(rows))
    for method in METHODS:
        assert [entry["nominal"] for entry in found[method]] == list(LEVELS)
        for entry in found[method]:
            assert entry["coverage"]["value"] == pytest.approx(entry["nominal"], abs=0.04)


def test_perfect_predictions_have_intervals_of_next_to_nothing(make_rows: MakeRows) -> None:
    ages = np.linspace(20, 80, 60)
    intervals = conformal_intervals(make_rows(ages, ages))
    for half_width in intervals.half_widths.values():
        np.testing.assert_allclose(half_width, 0, atol=1e-9)


# Reading


def _write(path: Path, text: str) -> Path:
    path.write_text(text.replace(" ", "\t"), encoding="utf-8")
    return path


HEADER = "participant_id fold chronological_age predicted_age\n"
SOUND = HEADER + "a 0 20 22\nb 1 30.5 29\nNA 1 40 44\n"


def test_rows_are_read_with_their_people_folds_and_ages(tmp_path: Path) -> None:
    table = pd.DataFrame({"age": [1.0, 2], "sex": ["M", np.nan]}, index=["b", "NA"])
    rows = read_out_of_fold(_write(tmp_path / "p.tsv", SOUND), Participants(table))
    assert rows.participants.tolist() == ["a", "b", "NA"]
    assert rows.folds.tolist() == [0, 1, 1]
    assert rows.gap.tolist() == [2, -1.5, 4]
    assert rows.decades.tolist() == [20, 30, 40]
    assert {k: v.tolist() for k, v in rows.groups.items()} == {"sex": ["n/a", "M", "n/a"]}
    assert rows.folds_given
    assert rows.left_out == {}
    assert rows.given_interval is None


def test_rows_that_cannot_be_judged_are_left_out_and_counted(tmp_path: Path) -> None:
    text = (
        "participant_id status chronological_age predicted_age predicted_age_lower "
        "predicted_age_upper\n"
        "sub-a ok 20 22 12 32\nb refused 30 n/a n/a n/a\nc ok n/a 41 31 51\nd ok 50 n/a n/a n/a\n"
        "e ok 60 61 51 71\nf ok 89+ 70 60 80\ng ok 70 64 54 74\n"
    )
    rows = read_out_of_fold(_write(tmp_path / "p.tsv", text))
    assert rows.participants.tolist() == ["a", "e", "g"]
    assert rows.used.tolist() == [True, False, False, False, True, False, True]
    assert rows.left_out == {
        "status is not ok": 1,
        "no chronological_age": 2,
        "no predicted_age": 1,
    }
    assert rows.given_interval is not None
    assert rows.given_interval.tolist() == [[12, 51, 54], [32, 71, 74]]


def test_without_folds_people_are_parted_and_kept_whole(tmp_path: Path) -> None:
    lines = [f"{n % 9} {20 + n} {25 + n}\n" for n in range(31)]
    text = "participant_id chronological_age predicted_age\n" + "".join(lines)
    rows = read_out_of_fold(_write(tmp_path / "p.tsv", text))
    assert not rows.folds_given
    assert len(rows.fold_names) == 5
    parted = pd.Series(rows.folds).groupby(rows.participants).nunique()
    assert (parted == 1).all()
    # One fold alone is no cross-validation.
    one = _write(tmp_path / "one.tsv", SOUND.replace(" 1 ", " 0 "))
    assert not read_out_of_fold(one).folds_given


def test_a_scan_that_stands_twice_is_refused_and_a_repeated_scan_is_not(tmp_path: Path) -> None:
    """Twice in the table it would be a repetition that agrees with itself to the last digit."""
    head = "participant_id scan chronological_age predicted_age\n"
    people = "a a_run-1 20 22\nb b 30.5 29\nc c 40 44\n"
    repeated = people + "sub-a a_run-2 20 23\n"
    assert len(read_out_of_fold(_write(tmp_path / "p.tsv", head + repeated)).gap) == 4
    # Named after their sequence, scans differ by what else is told of them.
    later = _write(tmp_path / "later.tsv", head + people + "b b 33 31\n")
    assert len(read_out_of_fold(later).gap) == 4
    for twice in ("a a_run-1 20 22\n", "sub-a a_run-1 20 25\n"):
        path = _write(tmp_path / "twice.tsv", head + people + twice)
        with pytest.raises(UsageError, match="each scan must stand once; found 'a_run-1' of a"):
            read_out_of_fold(path)
    # Where a table names no scans, nothing tells two rows from two scans.
    unnamed = _write(tmp_path / "unnamed.tsv", SOUND + "NA 1 40 44\n")
    assert len(read_out_of_fold(unnamed).gap) == 4


@pytest.mark.parametrize(
    "spoil", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n")]
)
def test_marks_and_line_ends_of_other_systems_change_nothing(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """A byte order mark stands before the first column's name, a return after the last one's."""
    path = _write(tmp_path / "p.tsv", SOUND)
    plain = read_out_of_fold(path)
    path.write_bytes(spoil(path.read_bytes()))
    found = read_out_of_fold(path)
    assert found.source.columns.tolist() == plain.source.columns.tolist()
    assert found.participants.tolist() == plain.participants.tolist()
    assert found.gap.tolist() == plain.gap.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant_id age\na 3\n", "missing: chronological_age, predicted_age"),
        (SOUND + "d 0 fifty 30\n", "from 0 to 123, or n/a; found 'fifty' for d"),
        (SOUND + "d 0 19480101 30\n", "found '19480101' for d"),
        (SOUND + "d 0 38,5 30\n", "found '38,5' for d. Write decimals after a point"),
        (SOUND + "d 0 -1 30\n", "found '-1' for d"),
        (SOUND + "d 0 NaN 30\n", "found 'NaN' for d"),
        (SOUND + "d 0 50 inf\n", "that is finite, or n/a; found 'inf' for d"),
        (SOUND + "a 1 20 21\n", "found a in folds 0, 1"),
        (SOUND + "d n/a 50 51\n", "found d without"),
        (SOUND + " 1 50 51\n", "found one without"),
        (SOUND + "d 1 50 51 7\n", "cannot be read|as many cells"),
        (HEADER + "a 0 20 21\nb 1 30 31\nb 1 40 41\n", "found 2 participants and 3 ages"),
        (HEADER + "a 0 20 21\nb 1 20 31\nc 1 20 41\n", "found 3 participants and 1 ages"),
        ("", "cannot be read"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = _write(tmp_path / "wrong.tsv", text)
    with pytest.raises(UsageError, match=message) as caught:
        read_out_of_fold(path)
    assert str(path) in str(caught.value)


def test_spaces_around_names_of_columns_are_no_part_of_them(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    text = SOUND.replace(" ", "\t").replace("predicted_age\n", " predicted_age \n")
    path.write_text(text, encoding="utf-8")
    assert read_out_of_fold(path).predicted.tolist() == [22, 29, 44]
    path.write_text(text.replace("fold", "predicted_age"), encoding="utf-8")
    with pytest.raises(UsageError, match="names a column twice"):
        read_out_of_fold(path)


def test_another_encoding_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_bytes(SOUND.replace(" ", "\t").encode("utf-16"))
    with pytest.raises(UsageError, match=r"must be text in UTF-8; found another encoding.*Save"):
        read_out_of_fold(path)


def test_a_participants_table_of_other_people_is_refused(tmp_path: Path) -> None:
    """Whoever takes the wrong table would find everybody's sex unknown, and not why."""
    path = _write(tmp_path / "p.tsv", SOUND)
    others = Participants(pd.DataFrame({"age": [1.0], "sex": ["M"]}, index=["x"]))
    with pytest.raises(UsageError, match=r"found none of them\. .* stand NA, a, b, in the table x"):
        read_out_of_fold(path, others)


def test_an_interval_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    text = HEADER.replace("\n", " predicted_age_lower predicted_age_upper\n")
    sound = text + "a 0 20 22 12 32\nb 1 30 29 29 29\nc 1 40 44 34 54\n"
    found = read_out_of_fold(_write(tmp_path / "sound.tsv", sound)).given_interval
    assert found is not None
    assert found.tolist() == [[12, 29, 34], [32, 29, 54]]
    with pytest.raises(UsageError, match=r"_lower must not lie above .* 54 and 34 for c"):
        read_out_of_fold(_write(tmp_path / "p.tsv", sound.replace("34 54", "54 34")))


def test_spaces_around_a_name_make_nobody_else(tmp_path: Path) -> None:
    """With one, a person would stand in two folds unseen."""
    path = tmp_path / "p.tsv"
    path.write_text((SOUND + "b~ 0 35 36\n").replace(" ", "\t").replace("~", " "), "utf-8")
    with pytest.raises(UsageError, match="found b in folds 0, 1"):
        read_out_of_fold(path)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.tsv: the predictions cannot be read"):
        read_out_of_fold(tmp_path / "none.tsv")
