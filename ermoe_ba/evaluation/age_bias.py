"""The gap's dependence on age taken out: two corrections, fitted on other folds than they correct.

With ``predicted = slope x age + intercept`` fitted by least squares on the other folds, where rows
of one person share that person's weight,

- Cole et al. 2018 (doi:10.1038/mp.2017.62): ``(predicted - intercept) / slope``;
- Beheshti et al. 2019 (doi:10.1016/j.nicl.2019.102063): ``predicted - (a x age + b)``, with
  ``gap = a x age + b`` fitted; de Lange and Cole 2020 (doi:10.1016/j.nicl.2020.102229) write
  ``predicted + age - (slope x age + intercept)``, which is the same number, since
  ``a = slope - 1`` and ``b = intercept``.

The second brings each person's own chronological age into the corrected one. A predictor that knows
nothing then looks excellent, so errors and correlations of corrected ages are not computed here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ermoe_ba.evaluation.bootstrap import Figures, estimates
from ermoe_ba.evaluation.out_of_fold import OutOfFold
from ermoe_ba.metrics import age_figures, person_shares
from ermoe_ba.space import Array

METHODS = ("cole", "beheshti")
NOTE = (
    "Corrected ages serve the comparison of gaps between people of different ages. Their accuracy "
    "must not be quoted: with each person's own chronological age in them, even the ages of a "
    "predictor that knows nothing have a small error and a high correlation (de Lange and Cole "
    "2020, doi:10.1016/j.nicl.2020.102229; Butler et al. 2021, doi:10.1002/hbm.25533)."
)


@dataclass(frozen=True, eq=False)
class Corrected:
    """Ages without the gap's dependence on age.

    Parameters
    ----------
    ages : dict of str to ndarray, shape (N,)
        By method, in years; not a number where Cole's slope is not above 0.
    report : dict
        ``note``, ``parameters`` (per fold: ``slope``, ``intercept`` in years, ``num_rows`` that
        they were fitted on) and, per method, the ``gap_slope`` that is left, with interval.
    """

    ages: dict[str, Array]
    report: dict[str, Any]


def correct_age_bias(rows: OutOfFold) -> Corrected:
    """Correct each fold's ages with what the other folds show.

    Parameters
    ----------
    rows : OutOfFold
        Predictions.

    Returns
    -------
    Corrected
    """
    ages = {method: np.full(len(rows.gap), np.nan) for method in METHODS}
    parameters = []
    for fold, name in enumerate(rows.fold_names):
        here, others = rows.folds == fold, rows.folds != fold
        if len(np.unique(rows.chronological[others])) < 2:
            # No line goes through one age: this fold stays uncorrected.
            continue
        ages_n, predicted_n = rows.chronological[others], rows.predicted[others]
        # Weights of residuals, not of their squares.
        weights_n = np.sqrt(person_shares(rows.participants[others]))
        slope, intercept = np.polyfit(ages_n, predicted_n, 1, w=weights_n)
        expected = slope * rows.chronological[here] + intercept
        # Predictions that do not rise with age cannot be stretched back.
        if slope > 0:
            ages["cole"][here] = (rows.predicted[here] - intercept) / slope
        ages["beheshti"][here] = rows.predicted[here] - (expected - rows.chronological[here])
        parameters.append(
            {
                "fold": name,
                "slope": float(slope),
                "intercept": float(intercept),
                "num_rows": int(others.sum()),
            }
        )
    left: dict[str, Any] = {}
    for method, corrected in ages.items():
        if np.isfinite(corrected).all():
            left[method] = estimates(_gap_slope(rows.chronological, corrected), rows.participants)
    return Corrected(ages, {"note": NOTE, "parameters": parameters, **left})


def _gap_slope(chronological: Array, corrected: Array) -> Figures:
    """Leave of all figures the one that says whether the correction did its work."""
    return lambda weights_bn: {
        "gap_slope": age_figures(chronological, corrected, weights_bn)["gap_slope"]
    }
