"""All figures of a table of predictions, and the files that hold them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba import __version__
from ermoe_ba.cohort import read_participants
from ermoe_ba.evaluation.accuracy import accuracy
from ermoe_ba.evaluation.age_bias import correct_age_bias
from ermoe_ba.evaluation.bootstrap import CONFIDENCE, NUM_RESAMPLES, SEED
from ermoe_ba.evaluation.calibration import regression_calibration
from ermoe_ba.evaluation.learning_curve import learning_curve
from ermoe_ba.evaluation.out_of_fold import OutOfFold, read_out_of_fold
from ermoe_ba.evaluation.prediction_intervals import (
    LEVELS,
    PredictionIntervals,
    conformal_intervals,
    interval_calibration,
)
from ermoe_ba.evaluation.run_record import RunRecord, read_run_record
from ermoe_ba.evaluation.sessions import longitudinal, retest_agreement
from ermoe_ba.intervals import age_interval
from ermoe_ba.io import write_json
from ermoe_ba.metrics import age_metrics, mae_by_group
from ermoe_ba.parquet import write_parquet_beside
from ermoe_ba.space import Array
from ermoe_ba.tables import EVALUATED_COLUMNS, PREDICTION_COLUMNS, PREDICTIONS, write_table
from ermoe_ba.training_scans import SEEN, count_seen


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a table of predictions is worth.

    Parameters
    ----------
    rows : OutOfFold
        The predictions.
    metrics : dict
        What ``metrics.json`` holds: the keys that `cross-validate` writes (years), and all else
        below ``evaluation``. Ready for JSON.
    table : DataFrame
        ``predictions_evaluated.tsv``: the rows as read, and `EVALUATED_COLUMNS`.
    record : RunRecord
        What the run that made the predictions left beside them.
    """

    rows: OutOfFold
    metrics: dict[str, Any]
    table: pd.DataFrame
    record: RunRecord

    def write(self, folder: Path) -> None:
        """Write ``metrics.json`` and ``predictions_evaluated.tsv`` with its sidecar.

        A large table is written as Parquet beside it too.

        Parameters
        ----------
        folder : Path
            Made if need be; may be that of the run.

        Raises
        ------
        OSError
            If a file cannot be written.
        """
        table = folder / "predictions_evaluated.tsv"
        write_table(table, self.table)
        write_parquet_beside(table, len(self.table))
        known = PREDICTION_COLUMNS | EVALUATED_COLUMNS
        described = {name: _sidecar(known[name]) for name in self.table if name in known}
        write_json(folder / "predictions_evaluated.json", described)
        write_json(folder / "metrics.json", self.metrics)


def _sidecar(meaning: str) -> dict[str, str]:
    """Return a column's meaning as BIDS writes it: the unit apart."""
    # Descriptions of ages begin with "years; " or "years, ".
    unit, text = meaning[:5], meaning[7:]
    return {"Description": text, "Units": "year"} if unit == "years" else {"Description": meaning}


def evaluate(
    path: Path, participants_path: Path | None = None, runs: Sequence[Path] = ()
) -> Evaluation:
    """Evaluate predictions of scans that the models had not seen.

    Parameters
    ----------
    path : Path
        Table of predictions; see `read_out_of_fold`.
    participants_path : Path, optional
        ``participants.tsv`` with ``sex`` or ``site``.
    runs : sequence of Path, optional
        Folders of the same cross-validation over fewer participants, for the learning curve.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError
        If a table cannot be read or evaluated.
    """
    participants = None if participants_path is None else read_participants(participants_path)
    rows = read_out_of_fold(path, participants)
    smaller = [read_out_of_fold(run / PREDICTIONS) for run in runs]
    intervals = conformal_intervals(rows)
    corrected = correct_age_bias(rows)
    details = {
        "ermoe_ba": __version__,
        "num_rows": len(rows.gap),
        "num_participants": rows.num_participants,
        "left_out": rows.left_out,
        "folds_given": rows.folds_given,
        # Scans by what their table says of the training; None where it has no such column.
        SEEN: count_seen(rows.source[SEEN][rows.used]) if SEEN in rows.source else None,
        "bootstrap": {
            "unit": "participant",
            "confidence": CONFIDENCE,
            "num_resamples": NUM_RESAMPLES,
            "seed": SEED,
        },
        "accuracy": accuracy(rows),
        "regression_calibration": regression_calibration(rows),
        "prediction_intervals": interval_calibration(rows, intervals),
        "age_bias_correction": corrected.report,
        "longitudinal": longitudinal(rows),
        "test_retest": retest_agreement(rows),
        "learning_curve": learning_curve([*smaller, rows]) if smaller else None,
    }
    ours = {**_run_keys(rows), "evaluation": details}
    record = read_run_record(path.parent)
    # What the run alone could measure, such as the error without an expert, is carried on; but
    # only if its figures are those of these predictions.
    # Runs of before people counted alike hold the mean over their scans.
    errors = (ours["mae"], float(np.abs(rows.gap).mean()))
    agree = any(_agree(record.metrics.get("mae"), error) for error in errors)
    if not (agree and _agree(record.metrics.get("n"), ours["n"])):
        record = replace(record, metrics={})
    return Evaluation(
        rows=rows,
        metrics={**record.metrics, **ours},
        table=_table(rows, intervals, corrected.ages),
        record=record,
    )


def _agree(found: object, computed: float) -> bool:
    return isinstance(found, int | float) and bool(np.isclose(found, computed))


def _run_keys(rows: OutOfFold) -> dict[str, Any]:
    """Return what the metrics of a cross-validation have always held."""
    groups = mae_by_group(
        pd.DataFrame(
            {
                "participant_id": rows.participants,
                "fold": np.array(rows.fold_names)[rows.folds],
                "chronological_age": rows.chronological,
                "brain_age_gap": rows.gap,
            }
        )
    )
    if not rows.folds_given:
        del groups["mae_by_fold"]
    # None where a figure is undefined: JSON knows no not-a-number.
    figures = {
        name: value if np.isfinite(value) else None
        for name, value in age_metrics(
            rows.chronological, rows.predicted, rows.participants
        ).items()
    }
    return {**figures, **groups}


def _table(
    rows: OutOfFold, intervals: PredictionIntervals, corrected: dict[str, Array]
) -> pd.DataFrame:
    columns = {} if rows.folds_given else {"calibration_fold": rows.folds}
    columns |= {"brain_age_gap": rows.gap, "expected_gap_size": intervals.difficulty}
    for level in LEVELS:
        lower, upper = age_interval(rows.predicted, intervals.half_widths["local", level])
        columns[f"predicted_age_lower_{level * 100:.0f}"] = lower
        columns[f"predicted_age_upper_{level * 100:.0f}"] = upper
    for method, ages in corrected.items():
        columns[f"corrected_age_{method}"] = ages
        columns[f"corrected_gap_{method}"] = ages - rows.chronological
    table = rows.source.copy()
    for name, values in columns.items():
        # Digits of what the table has already stay as they are.
        if name == "brain_age_gap" and name in table:
            continue
        table[name] = pd.Series(values, index=table.index[rows.used])
    return table
