"""People scanned more than once, and runs of fewer people."""

import json
from pathlib import Path

import numpy as np
import pytest
from scan_tables import cohort_of, write_predictions

from ermoe_ba.errors import UsageError
from ermoe_ba.evaluation import evaluate
from ermoe_ba.evaluation.learning_curve import learning_curve
from ermoe_ba.evaluation.out_of_fold import read_out_of_fold
from ermoe_ba.evaluation.run_record import read_run_record
from ermoe_ba.evaluation.sessions import longitudinal, retest_agreement
from ermoe_ba.reliability import agreement_icc, within_subject_sd


def test_the_slope_within_people_ignores_differences_between_them(tmp_path: Path) -> None:
    """Older people come out younger, but each grows by .5, .5 or 2 years a year.

    Deviations: a (-1, 1; answers -.5, .5), b (-2, 0, 2; -1, 0, 1), c (-1, 1; -2, 2): products
    1 + 4 + 4, squares 2 + 8 + 2. d was seen once, e twice at one age.
    """
    scans = [("a", 30, 70), ("a", 32, 71), ("b", 50, 50), ("b", 52, 51), ("b", 54, 52)]
    scans += [("c", 70, 20), ("c", 72, 24), ("d", 40, 90), ("e", 25, 20), ("e", 25, 30)]
    found = longitudinal(read_out_of_fold(write_predictions(tmp_path / "p.tsv", scans)))
    assert found is not None
    assert found["slope"] == {"value": pytest.approx(9 / 12), "lower": None, "upper": None}
    assert (found["num_participants"], found["num_rows"]) == (3, 7)
    assert found["mean_years"] == pytest.approx((2 + 4 + 2) / 3)


def test_people_who_age_alike_have_a_narrow_slope(tmp_path: Path) -> None:
    scans = [(f"{n}", 30 + 5 * n + y, 40 + 0.8 * y + n % 3) for n in range(8) for y in (0, 1, 3)]
    found = longitudinal(read_out_of_fold(write_predictions(tmp_path / "p.tsv", scans)))
    assert found is not None
    assert [*found["slope"].values()] == pytest.approx([0.8] * 3)


def test_repetitions_are_the_first_two_scans_of_one_season(tmp_path: Path) -> None:
    """a's second and third scans; all others come after more than a quarter of a year."""
    scans = [("a", 30, 40), ("a", 31, 33), ("a", 31.25, 34), ("a", 31.3, 50)]
    scans += [("b", 50, 52), ("b", 50, 49), ("c", 60, 61), ("c", 60.2, 66)]
    scans += [("d", 40, 44), ("d", 40.3, 41)]
    found = retest_agreement(read_out_of_fold(write_predictions(tmp_path / "p.tsv", scans)))
    pairs = np.array([[33.0, 34], [52, 49], [61, 66]])
    gaps = np.array([[2.0, 2.75], [2, -1], [1, 5.8]])
    assert found is not None
    assert found["num_participants"] == 3
    assert found["icc_predicted_age"]["value"] == pytest.approx(agreement_icc(pairs))
    assert found["icc_brain_age_gap"]["value"] == pytest.approx(agreement_icc(gaps))
    assert found["within_subject_sd"]["value"] == pytest.approx(within_subject_sd(pairs))


def test_who_was_scanned_once_has_neither_slope_nor_agreement(tmp_path: Path) -> None:
    rows = read_out_of_fold(write_predictions(tmp_path / "p.tsv", cohort_of(6)))
    assert longitudinal(rows) is None
    assert retest_agreement(rows) is None


@pytest.mark.parametrize(("mae", "is_its_own"), [(1.0, True), (1.25, True), (1.5, False)])
def test_a_run_is_known_by_its_error_however_it_counted_scans(
    tmp_path: Path, mae: float, is_its_own: bool
) -> None:
    """Errors of 0, 1 and twice 2: a mean of 1 over three people, of 5 / 4 over scans."""
    scans = [("a", 20, 20), ("b", 30, 31), ("c", 40, 42), ("c", 41, 43)]
    path = write_predictions(tmp_path / "predictions.tsv", scans)
    (tmp_path / "metrics.json").write_text(
        json.dumps({"n": 4.0, "mae": mae, "probe_mae": 9.0}),
        encoding="utf-8",
    )
    metrics = evaluate(path).metrics
    assert metrics["mae"] == pytest.approx(1.0)
    assert ("probe_mae" in metrics) == is_its_own


def test_a_curve_orders_runs_by_the_people_they_learnt_from(tmp_path: Path) -> None:
    """Large: folds of 1 and 4 people, so 4 and 1 others, 2.5 in the mean. Small: 2 and 1: 1.5."""
    large = [("a", 20, 21), ("b", 30, 32), ("c", 40, 43), ("d", 50, 54), ("e", 60, 65)]
    small = [("c", 40, 46), ("d", 50, 58), ("f", 70, 71)]
    runs = [
        read_out_of_fold(
            write_predictions(tmp_path / "l.tsv", large, {"a": 0} | dict.fromkeys("bcde", 1)),
        ),
        read_out_of_fold(write_predictions(tmp_path / "s.tsv", small, {"c": 0, "d": 0, "f": 1})),
    ]
    points = learning_curve(runs)
    assert [p["num_train"] for p in points] == [1.5, 2.5]
    assert [p["num_participants"] for p in points] == [3, 5]
    assert [p["mae"]["value"] for p in points] == pytest.approx([5, 3])
    # c and d were tested by both.
    assert [p["mae_common"]["value"] for p in points] == pytest.approx([7, 3.5])


def test_runs_of_different_people_have_nothing_in_common(tmp_path: Path) -> None:
    runs = [
        read_out_of_fold(
            write_predictions(tmp_path / f"{p}.tsv", [(p + n, a, b) for n, a, b in cohort_of(5)])
        )
        for p in "xy"
    ]
    assert [point["mae_common"] for point in learning_curve(runs)] == [None, None]


def test_wrong_files_of_a_run_are_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(UsageError, match=r"metrics\.json: must hold names and values"):
        read_run_record(tmp_path)
    # The second could be read, and then not be carried on into a file.
    for text in ("{", '{"mae": 5.0, "probe_mae": NaN}'):
        (tmp_path / "metrics.json").write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=r"metrics\.json: must be JSON"):
            read_run_record(tmp_path)
    (tmp_path / "metrics.json").unlink()
    history = tmp_path / "fold-0_history.tsv"
    for text, message in (
        ("epoch\tloss\n1\t2\n", "must have a column step; found epoch, loss"),
        ("step\tloss\n1\tbig\n", "must be a table of numbers"),
    ):
        history.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=message):
            read_run_record(tmp_path)
