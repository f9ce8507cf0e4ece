"""Prediction intervals: how wide, from out-of-fold residuals, and where they end."""

import numpy as np

from ermoe_ba.space import Array


def age_interval(predicted: Array | float, half_width: Array | float) -> tuple[Array, Array]:
    """Return the ends of prediction intervals of ages: ``max(0, predicted -/+ half_width)``.

    No age lies below 0, so that what is cut off there would cover nobody.

    Parameters
    ----------
    predicted : ndarray, shape (n,), or float
        Predicted ages in years.
    half_width : ndarray, shape (n,), or float
        In years, at least 0; not a number where there is no interval.

    Returns
    -------
    ndarray, shape (n,) or ()
        Lower ends in years, at least 0; not a number where there is no interval.
    ndarray, shape (n,) or ()
        Upper ends, likewise.
    """
    lower = np.maximum(np.asarray(predicted) - half_width, 0.0)
    return lower, np.maximum(np.asarray(predicted) + half_width, 0.0)


def smallest_cohort(coverage: float) -> int:
    """Return of how many participants `conformal_half_width` needs residuals.

    The least K with ``(K + 1) coverage <= K``, that is ``K >= coverage / (1 - coverage)``.

    Parameters
    ----------
    coverage : float
        Between 0 and 1.

    Returns
    -------
    int
        At least 1.
    """
    # The slack is for quotients that miss a whole number by rounding.
    return int(np.ceil(coverage / (1.0 - coverage) - 1e-9))


def conformal_half_width(
    residuals: Array, coverage: float, participants: Array | None = None
) -> float:
    """Return the half-width of a split-conformal interval.

    The ceil((n + 1) coverage)-th smallest absolute residual: a new scan of the same population lies
    within it with at least the asked probability (Lei et al. 2018, J Am Stat Assoc 113:1094). Of K
    participants with several scans each, every scan counts one part of its participant's share of
    1 / (K + 1), so that a scan of a new participant is covered with that probability (Lee, Barber
    and Willett 2023, arXiv:2306.06342; conformal libraries count rows alone).

    The promise is for one predictor that saw none of these people. Of residuals out of fold, each
    of another predictor than the one that meets the new scan, it holds about; how nearly must be
    measured.

    Parameters
    ----------
    residuals : ndarray, shape (n,)
        Predicted minus chronological age, out of fold, in years; or multiples of a difficulty.
    coverage : float
        Between 0 and 1.
    participants : ndarray, shape (n,), optional
        Whose residual each is; by default each is somebody else's.

    Returns
    -------
    float
        In the unit of the residuals.

    Raises
    ------
    ValueError
        If there are too few residuals for the coverage asked.
    """
    if not 0.0 < coverage < 1.0:
        raise ValueError(f"coverage must lie between 0 and 1; found {coverage}.")
    whose = np.arange(len(residuals)) if participants is None else participants
    _, person, scans = np.unique(whose, return_inverse=True, return_counts=True)
    sizes = np.abs(residuals)
    order = np.argsort(sizes, kind="stable")
    reached = np.cumsum(1.0 / scans[person[order]])
    # The slack is for sums of thirds and sevenths that miss a whole number by rounding.
    enough = reached >= coverage * (len(scans) + 1) - 1e-9
    if not enough.any():
        raise ValueError(f"{len(residuals)} residuals are too few for a coverage of {coverage:g}.")
    return float(sizes[order][np.argmax(enough)])
