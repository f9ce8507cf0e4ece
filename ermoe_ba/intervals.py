"""Prediction intervals from out-of-fold residuals."""

import math

import numpy as np

from ermoe_ba.space import Array


def conformal_half_width(residuals: Array, coverage: float) -> float:
    """Return the half-width of a split-conformal interval.

    The ceil((n + 1) coverage)-th smallest absolute residual: a new scan of the same population lies
    within it with at least the asked probability (Lei et al. 2018, J Am Stat Assoc 113:1094).

    Parameters
    ----------
    residuals : ndarray, shape (n,)
        Predicted minus chronological age, out of fold, in years.
    coverage : float
        Between 0 and 1.

    Returns
    -------
    float
        Years.

    Raises
    ------
    ValueError
        If there are too few residuals for the coverage asked.
    """
    if not 0.0 < coverage < 1.0:
        raise ValueError(f"coverage must lie between 0 and 1; found {coverage}.")
    rank = math.ceil((len(residuals) + 1) * coverage)
    if rank > len(residuals):
        raise ValueError(f"{len(residuals)} residuals are too few for a coverage of {coverage:g}.")
    return float(np.sort(np.abs(residuals))[rank - 1])
