"""Intervals, figures of merit and tables, worked by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.intervals import age_interval, conformal_half_width, smallest_cohort
from ermoe_ba.metrics import age_metrics, mae_by_group
from ermoe_ba.tables import (
    PREDICTION_COLUMNS,
    markdown_table,
    predictions_table,
    write_table,
)


def test_the_half_width_is_the_right_order_statistic() -> None:
    """Nine residuals of size 1 to 9: ceil(10 * .8) = 8, ceil(10 * .75) = 8, ceil(10 * .9) = 9."""
    residuals = np.array([5.0, -1, 2, -9, 4, -3, 8, -6, 7])
    assert conformal_half_width(residuals, 0.8) == 8.0
    assert conformal_half_width(residuals, 0.75) == 8.0
    assert conformal_half_width(residuals, 0.9) == 9.0
    assert conformal_half_width(residuals, 0.05) == 1.0


def test_too_few_residuals_for_the_coverage_are_refused() -> None:
    """ceil(10 * .91) = 10 of 9."""
    with pytest.raises(ValueError, match=r"9 residuals are too few for a coverage of 0\.91"):
        conformal_half_width(np.arange(9.0), 0.91)
    with pytest.raises(ValueError, match="too few"):
        conformal_half_width(np.array([]), 0.5)


def test_the_smallest_cohort_is_the_first_that_has_a_half_width() -> None:
    for coverage in (0.05, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99):
        fewest = smallest_cohort(coverage)
        assert conformal_half_width(np.arange(float(fewest)), coverage) == fewest - 1
        with pytest.raises(ValueError, match="too few"):
            conformal_half_width(np.arange(fewest - 1.0), coverage)
    # 9 of 10, 19 of 20, 99 of 100.
    assert [smallest_cohort(coverage) for coverage in (0.9, 0.95, 0.99)] == [9, 19, 99]


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 90.0, float("nan")])
def test_a_coverage_is_a_share(coverage: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        conformal_half_width(np.arange(9.0), coverage)


def test_no_interval_reaches_below_the_age_of_0() -> None:
    """11 and 40 years give or take 13: from -2 to 24, and from 27 to 53; -20 leaves nothing."""
    lower, upper = age_interval(np.array([11.0, 40.0, -20.0]), 13.0)
    assert lower.tolist() == [0, 27, 0]
    assert upper.tolist() == [24, 53, 0]
    # Where a cohort is too small for a width there is no interval, and none from 0 either.
    lower, upper = age_interval(np.array([30.0, 30.0]), np.array([2.5, np.nan]))
    np.testing.assert_array_equal(lower, [27.5, np.nan])
    np.testing.assert_array_equal(upper, [32.5, np.nan])


def test_new_residuals_of_the_same_kind_are_covered() -> None:
    random = np.random.default_rng(0)
    covered = [
        np.abs(random.standard_t(3, 200)) <= conformal_half_width(random.standard_t(3, 39), 0.9)
        for _ in range(200)
    ]
    assert 0.88 < np.mean(covered) < 0.93


def test_metrics_by_hand() -> None:
    """Ages 20, 40, 60, predicted 26, 42, 52: gaps 6, 2, -8.

    MAE 16 / 3; RMSE root of 104 / 3; bias 0; slope (-20 * 6 + 20 * -8) / 800 = -.35.
    R2 = 1 - 104 / 800. r: covariance sum 20 * 14 + 20 * 12 - 0 = -20 * -14 + 20 * 12 = 520, with
    predicted deviations -14, 2, 12 of square sum 344: 520 / sqrt(800 * 344). Median 40: 40 / 3.
    """
    metrics = age_metrics(np.array([20.0, 40, 60]), np.array([26.0, 42, 52]))
    assert metrics == pytest.approx(
        {
            "n": 3.0,
            "mae": 16 / 3,
            "rmse": (104 / 3) ** 0.5,
            "r": 520 / (800 * 344) ** 0.5,
            "r2": 0.87,
            "bias": 0.0,
            "gap_slope": -0.35,
            "median_mae": 40 / 3,
        }
    )


def test_answering_five_years_too_much_is_bias_alone() -> None:
    ages = np.array([20.0, 35, 70])
    metrics = age_metrics(ages, ages + 5)
    assert metrics["bias"] == pytest.approx(5.0)
    assert metrics["gap_slope"] == pytest.approx(0.0, abs=1e-12)
    assert metrics["r"] == pytest.approx(1.0)


def test_errors_by_fold_and_decade_by_hand() -> None:
    """Gaps of -1, 3 and 5 years: of folds 0, 1, 1 and of the decades 20, 20, 30."""
    table = pd.DataFrame(
        {"fold": [0, 1, 1], "chronological_age": [20.0, 29.9, 30.0], "brain_age_gap": [-1.0, 3, 5]}
    )
    assert mae_by_group(table) == {
        "mae_by_fold": {"0": 1.0, "1": 4.0},
        "mae_by_decade": {"20": 2.0, "30": 5.0},
        "bias_by_decade": {"20": 1.0, "30": 5.0},
    }


def test_errors_by_decade_count_people_and_not_their_scans() -> None:
    """Two scans of a lie in her 20s: of two people there, errors of 4 and 1 on the average."""
    table = pd.DataFrame(
        {
            "participant_id": ["a", "a", "a", "b"],
            "fold": [0, 0, 0, 1],
            "chronological_age": [28.0, 29, 30, 25],
            "brain_age_gap": [3.0, -5, 7, 1],
        }
    )
    assert mae_by_group(table) == {
        "mae_by_fold": {"0": 5.0, "1": 1.0},
        "mae_by_decade": {"20": 2.5, "30": 7.0},
        "bias_by_decade": {"20": 0.0, "30": 7.0},
    }


def test_prediction_columns_stand_in_their_order() -> None:
    table = predictions_table([{"status": "ok", "participant_id": "01"}])
    assert table.columns.tolist() == list(PREDICTION_COLUMNS)
    assert predictions_table([]).columns.tolist() == list(PREDICTION_COLUMNS)


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(ValueError, match="corrected_age"):
        predictions_table([{"status": "ok"}, {"status": "ok", "corrected_age": 3.0}])


def test_what_is_not_known_is_written_as_n_a(tmp_path: Path) -> None:
    rows = [
        {"participant_id": "01", "session_id": None, "predicted_age": 31.25, "input": "a\nb c.nii"},
        {"participant_id": "NA", "status": "failed", "message": 'says "no"\tand goes'},
    ]
    path = tmp_path / "deeper" / "predictions.tsv"
    write_table(path, predictions_table(rows))
    first = path.read_text(encoding="utf-8").split("\n")[0]
    assert first == "\t".join(PREDICTION_COLUMNS)
    read = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert read.loc[0, ["session_id", "predicted_age", "chronological_age"]].tolist() == [
        "n/a",
        "31.25",
        "n/a",
    ]
    # Text with tabs, quotes and line ends comes back as it was.
    assert read["input"].tolist() == ["a\nb c.nii", "n/a"]
    assert read["participant_id"].tolist() == ["01", "NA"]
    assert read.loc[1, "message"] == 'says "no"\tand goes'
    assert not list(path.parent.glob(".partial-*"))


def test_a_markdown_table_rounds_fractions_alone() -> None:
    table = pd.DataFrame({"site": ["a"], "people": [24], "mae": [2.348]})
    assert markdown_table(table, 2).splitlines() == [
        "| site | people | mae |",
        "| --- | --- | --- |",
        "| a | 24 | 2.35 |",
    ]
