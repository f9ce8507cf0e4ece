"""Intervals of predictions: their widths by hand, and nobody judged by their own gap."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up_rows import MakeRows, make_rows
from scipy.stats import binomtest
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor

from ermoe_ba.evaluation.prediction_intervals import (
    LEVELS,
    METHODS,
    conformal_intervals,
    interval_calibration,
)
from ermoe_ba.intervals import conformal_half_width
from ermoe_ba.space import Array

# Fixtures, which pytest finds by name.
__all__ = ["make_rows"]


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


@pytest.mark.parametrize("scans", [1, 3])
def test_all_of_a_few_people_are_no_proof_of_all_people(make_rows: MakeRows, scans: int) -> None:
    """Twenty of twenty: a share of which that has a probability of 2.5 % is 0.025^(1/20), 83 %.

    Their bootstrap samples all hold all; scans of one person are no further people.
    """
    ages = np.repeat(np.linspace(20, 80, 20), scans)
    names = np.repeat([f"p{number:02}" for number in range(20)], scans)
    rows = make_rows(ages, ages + 1, participants=names, folds=np.zeros(20 * scans, dtype=int))
    held = replace(rows, given_interval=np.stack([ages - 5, ages + 5]))
    least = 0.025 ** (1 / 20)
    assert least == pytest.approx(0.8316, abs=1e-4)
    # That of the textbook's exact interval.
    exact = binomtest(20, 20).proportion_ci(0.95, method="exact")
    assert (exact.low, exact.high) == pytest.approx((least, 1.0))
    found = interval_calibration(held, conformal_intervals(held))["as_given"]["coverage"]
    assert found == {"value": 1.0, "lower": pytest.approx(least), "upper": 1.0}
    missed = replace(rows, given_interval=np.stack([ages + 2, ages + 5]))
    found = interval_calibration(missed, conformal_intervals(missed))["as_given"]["coverage"]
    assert found == {"value": 0.0, "lower": 0.0, "upper": pytest.approx(1 - least)}
    # Of one that is missed, samples tell.
    lower = np.where(names == "p07", ages + 2, ages - 5)
    one = replace(rows, given_interval=np.stack([lower, ages + 5]))
    found = interval_calibration(one, conformal_intervals(one))["as_given"]["coverage"]
    assert found["value"] == pytest.approx(0.95)
    assert found["lower"] < 0.95 < found["upper"]


def test_of_four_people_no_share_has_an_interval(make_rows: MakeRows) -> None:
    ages = np.array([30.0, 40.0, 50.0, 60.0])
    rows = make_rows(ages, ages + 1, num_folds=2)
    held = replace(rows, given_interval=np.stack([ages - 5, ages + 5]))
    found = interval_calibration(held, conformal_intervals(held))["as_given"]["coverage"]
    assert found == {"value": 1.0, "lower": None, "upper": None}


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
