"""Intervals by bootstrap: people are drawn, not rows."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from made_up_rows import MakeRows, make_rows

from ermoe_ba.evaluation.accuracy import accuracy
from ermoe_ba.evaluation.age_bias import correct_age_bias
from ermoe_ba.evaluation.bootstrap import estimates
from ermoe_ba.evaluation.calibration import regression_calibration
from ermoe_ba.evaluation.out_of_fold import OutOfFold
from ermoe_ba.evaluation.prediction_intervals import (
    METHODS,
    conformal_intervals,
    interval_calibration,
)
from ermoe_ba.metrics import age_figures, age_metrics
from ermoe_ba.space import Array

# Fixtures, which pytest finds by name.
__all__ = ["make_rows"]


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
