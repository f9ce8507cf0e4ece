"""People scanned more than once: how predicted age follows time, and how well scans agree."""

from typing import Any

import numpy as np

from ermoe_ba.evaluation.bootstrap import estimates
from ermoe_ba.evaluation.out_of_fold import OutOfFold
from ermoe_ba.reliability import agreement_icc, within_subject_sd
from ermoe_ba.space import Array

# Years between scans that count as repetitions: in a season a brain ages by a fraction of what
# any predictor errs. Ages in whole years make repetitions of all scans of one year of life.
REPEAT_YEARS = 0.25
# Agreement of two people is one number of chance.
_MIN_PAIRS = 3


def longitudinal(rows: OutOfFold) -> dict[str, Any] | None:
    """Return the slope of predicted on chronological age within people.

    Pooled over people, ``sum dx dy / sum dx^2`` with deviations from each person's own means (the
    within, or fixed-effects, estimator): differences between people do not enter.

    Parameters
    ----------
    rows : OutOfFold
        Predictions.

    Returns
    -------
    dict or None
        ``slope`` (predicted years a year of life, 1 where predictions keep up; with interval),
        ``num_participants`` and ``num_rows`` of people seen at more than one age, and their
        ``mean_years`` from first to last scan. None where nobody was.
    """
    people = [own for own in rows.by_person() if np.ptp(rows.chronological[own]) > 0]
    if not people:
        return None
    seen = np.concatenate(people)
    d_age, d_predicted = (
        np.concatenate([values[own] - values[own].mean() for own in people])
        for values in (rows.chronological, rows.predicted)
    )
    product, square = d_age * d_predicted, d_age**2
    return {
        **estimates(
            lambda weights_bn: {"slope": weights_bn @ product / (weights_bn @ square)},
            rows.participants[seen],
            # Whoever was seen at more ages tells more of how predictions follow them.
            shared=False,
        ),
        "num_participants": len(people),
        "num_rows": len(seen),
        "mean_years": float(np.mean([np.ptp(rows.chronological[own]) for own in people])),
    }


def retest_agreement(rows: OutOfFold) -> dict[str, Any] | None:
    """Return how well two scans of the same person at the same age agree.

    Parameters
    ----------
    rows : OutOfFold
        Predictions.

    Returns
    -------
    dict or None
        ``num_participants``; with intervals, ``icc_predicted_age``, ``icc_brain_age_gap``
        (ICC(2,1); the first is raised by a wide range of ages, the second is not) and
        ``within_subject_sd`` of the predicted age (years). Of each person, the first two scans by
        age that lie within a quarter of a year. None with fewer than three such people.
    """
    pairs_p2 = _pairs(rows)
    if len(pairs_p2) < _MIN_PAIRS:
        return None
    measures = {
        "icc_predicted_age": (agreement_icc, rows.predicted[pairs_p2]),
        "icc_brain_age_gap": (agreement_icc, rows.gap[pairs_p2]),
        "within_subject_sd": (within_subject_sd, rows.predicted[pairs_p2]),
    }

    def figures(weights_bp: Array) -> dict[str, Array]:
        return {
            name: np.array([measure(np.repeat(v, w.astype(int), axis=0)) for w in weights_bp])
            for name, (measure, v) in measures.items()
        }

    return {
        **estimates(figures, rows.participants[pairs_p2[:, 0]]),
        "num_participants": len(pairs_p2),
    }


def _pairs(rows: OutOfFold) -> Array:
    """Return the rows of each person's first repetition, shape (P, 2)."""
    found = []
    for own in rows.by_person():
        # In order of age, the nearest scans follow each other.
        close = np.flatnonzero(np.diff(rows.chronological[own]) <= REPEAT_YEARS)
        if len(close):
            found.append(own[close[0] : close[0] + 2])
    return np.array(found, dtype=int).reshape(-1, 2)
