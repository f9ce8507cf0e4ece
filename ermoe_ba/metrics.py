"""Figures of merit of predicted ages; all uncorrected."""

import numpy as np
import pandas as pd

from ermoe_ba.space import Array


def age_figures(chronological: Array, predicted: Array, weights_bn: Array) -> dict[str, Array]:
    """Compare predicted with chronological ages, with weights of the rows.

    Parameters
    ----------
    chronological, predicted : ndarray, shape (N,)
        Ages in years.
    weights_bn : ndarray, shape (B, N)
        How much each row counts in each of B samples, at least 0 and not all 0: ones for the table
        as it is, numbers of draws for a bootstrap sample of it.

    Returns
    -------
    dict
        Each of shape (B,): ``mae``, ``rmse`` (years), ``r`` (Pearson), ``r2`` (explained variance,
        ``1 - sum gap^2 / sum (age - mean age)^2``), ``bias`` (mean gap in years) and ``gap_slope``
        (least-squares slope of the gap on age); not a number where all ages are equal.
    """
    share_bn = weights_bn / weights_bn.sum(axis=-1, keepdims=True)
    gap = predicted - chronological
    # Centred first: squares of deviations lose no digits to squares of ages.
    age, answer = chronological - chronological.mean(), predicted - predicted.mean()
    mean_age, mean_answer = share_bn @ age, share_bn @ answer
    age_variance = _known(share_bn @ age**2 - mean_age**2)
    answer_variance = _known(share_bn @ answer**2 - mean_answer**2)
    covariance = share_bn @ (age * answer) - mean_age * mean_answer
    mean_square = share_bn @ gap**2
    return {
        "mae": share_bn @ np.abs(gap),
        "rmse": np.sqrt(mean_square),
        "r": covariance / np.sqrt(age_variance * answer_variance),
        "r2": 1 - mean_square / age_variance,
        "bias": share_bn @ gap,
        "gap_slope": covariance / age_variance - 1,
    }


def _known(variance: Array) -> Array:
    """Return a variance of ages, not a number where there is none but rounding."""
    # Years squared; ages in days differ by more.
    return np.where(variance > 1e-9, variance, np.nan)


def age_metrics(chronological: Array, predicted: Array) -> dict[str, float]:
    """Compare predicted with chronological ages.

    Parameters
    ----------
    chronological, predicted : ndarray, shape (n,)
        Ages in years, n at least 2.

    Returns
    -------
    dict
        The figures of `age_figures`, each row counted once, ``median_mae`` (years; MAE of always
        answering the median age) and ``n``.
    """
    figures = age_figures(chronological, predicted, np.ones((1, len(chronological))))
    return {
        "n": float(len(chronological)),
        **{name: float(value[0]) for name, value in figures.items()},
        "median_mae": float(np.abs(chronological - np.median(chronological)).mean()),
    }


def mae_by_group(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Compare predicted with chronological ages by fold and by decade of age.

    Parameters
    ----------
    table : DataFrame
        Columns ``fold``, ``chronological_age`` and ``brain_age_gap`` (years).

    Returns
    -------
    dict
        ``mae_by_fold``, ``mae_by_decade`` and ``bias_by_decade`` (mean gap), in years; a decade is
        named by its first year.
    """
    gap = table["brain_age_gap"]
    decade = (table["chronological_age"] // 10 * 10).astype(int)
    return {
        name: {str(key): float(value) for key, value in values.groupby(by).mean().items()}
        for name, values, by in (
            ("mae_by_fold", gap.abs(), table["fold"]),
            ("mae_by_decade", gap.abs(), decade),
            ("bias_by_decade", gap, decade),
        )
    }
