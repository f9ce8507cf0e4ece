"""Whether people of a predicted age are of that age."""

from typing import Any

import numpy as np

from ermoe_ba.evaluation.bootstrap import estimates
from ermoe_ba.evaluation.out_of_fold import OutOfFold
from ermoe_ba.metrics import person_shares
from ermoe_ba.space import Array

# Of the people: fifths of a cohort of a hundred still hold twenty each.
NUM_PARTS = 5


def regression_calibration(rows: OutOfFold) -> dict[str, Any]:
    """Regress chronological on predicted age, and compare them in parts of equal size.

    Predictions are calibrated where the line is ``chronological = 0 + 1 predicted`` (Cox 1958,
    doi:10.1093/biomet/45.3-4.562): a slope below 1 says that they spread too far. This is not the
    slope of the gap on age, which is below 0 for every predictor that errs, calibrated or not.

    Parameters
    ----------
    rows : OutOfFold
        Predictions.

    Returns
    -------
    dict
        ``slope`` and ``intercept`` (years) of the line, with intervals, and ``parts``: by rising
        predicted age, ``num_rows``, ``predicted_from``, ``predicted_to``, ``mean_predicted``,
        ``mean_chronological`` and ``difference`` (mean predicted minus mean chronological age, with
        interval), in years. In the line, in each part and in what makes parts equal, rows of one
        person share that person's weight.
    """
    ages, predicted = rows.chronological, rows.predicted

    def line(weights_bn: Array) -> dict[str, Array]:
        share_bn = weights_bn / weights_bn.sum(axis=-1, keepdims=True)
        centred = predicted - predicted.mean()
        mean_age, mean_centred = share_bn @ ages, share_bn @ centred
        variance = share_bn @ centred**2 - mean_centred**2
        slope = (share_bn @ (centred * ages) - mean_centred * mean_age) / variance
        # Constant answers have no slope; what rounding leaves of their variance is none.
        slope = np.where(variance > 1e-9, slope, np.nan)
        return {
            "slope": slope,
            "intercept": mean_age - slope * (mean_centred + predicted.mean()),
        }

    parts = [_part(rows, part) for part in _equal_parts(predicted, rows.participants)]
    return {**estimates(line, rows.participants), "parts": parts}


def _equal_parts(values: Array, participants: Array) -> list[Array]:
    """Return numbers of rows by rising value, in parts of as many people's shares each."""
    order = np.argsort(values, kind="stable")
    people = len(np.unique(participants))
    # As many people as in parts of single rows: the first parts take what does not come out even.
    sizes = [len(part) for part in np.array_split(np.arange(people), min(NUM_PARTS, people))]
    reached = np.cumsum(person_shares(participants)[order])
    # The slack is for sums of thirds and sevenths that miss a whole number by rounding.
    ends = np.searchsorted(reached, np.cumsum(sizes)[:-1] + 1e-9, side="right")
    return np.split(order, ends)


def _part(rows: OutOfFold, chosen: Array) -> dict[str, Any]:
    gap, predicted = rows.gap[chosen], rows.predicted[chosen]
    shares = person_shares(rows.participants[chosen])

    def difference(weights_bn: Array) -> dict[str, Array]:
        return {"difference": weights_bn @ gap / weights_bn.sum(axis=-1)}

    return {
        "num_rows": len(chosen),
        "predicted_from": float(predicted.min()),
        "predicted_to": float(predicted.max()),
        "mean_predicted": float(np.average(predicted, weights=shares)),
        "mean_chronological": float(np.average(rows.chronological[chosen], weights=shares)),
        **estimates(difference, rows.participants[chosen]),
    }
