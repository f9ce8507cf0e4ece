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
        Each of shape (B,): ``mae``, ``rmse`` (years), ``r`` (Pearson), ``r2`` (coefficient
        of determination, ``1 - sum gap^2 / sum (age - mean age)^2``, which a mean gap lowers and an
        explained variance does not heed), ``bias`` (mean gap in years) and ``gap_slope``
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


def person_shares(participants: Array) -> Array:
    """Return how much each scan counts, so that all people count alike.

    Parameters
    ----------
    participants : ndarray, shape (n,)
        Whose each scan is.

    Returns
    -------
    ndarray, shape (n,)
        One by the number of the person's scans; exactly 1 where that is one.
    """
    _, person, scans = np.unique(participants, return_inverse=True, return_counts=True)
    shares: Array = 1.0 / scans[person]
    return shares


def age_metrics(
    chronological: Array, predicted: Array, participants: Array | None = None
) -> dict[str, float]:
    """Compare predicted with chronological ages.

    Parameters
    ----------
    chronological, predicted : ndarray, shape (n,)
        Ages in years, n at least 2.
    participants : ndarray, shape (n,), optional
        Whose each row is: rows of one person share that person's weight. By default each is
        somebody else's.

    Returns
    -------
    dict
        The figures of `age_figures`, ``median_mae`` (years; MAE of always answering the median age)
        and ``n``, the number of rows.
    """
    count = len(chronological)
    shares = np.ones(count) if participants is None else person_shares(participants)
    figures = age_figures(chronological, predicted, shares[None])
    distances = np.abs(chronological - _median(chronological, shares))
    return {
        "n": float(count),
        **{name: float(value[0]) for name, value in figures.items()},
        "median_mae": float(np.average(distances, weights=shares)),
    }


def _median(values: Array, weights: Array) -> float:
    """Return the middle of a weighted sample: between two values where half lies on either side."""
    order = np.argsort(values, kind="stable")
    reached, half = np.cumsum(weights[order]), weights.sum() / 2
    # The slack is for sums of thirds and sevenths that miss the half by rounding.
    ends = [np.argmax(reached >= half - 1e-9), np.argmax(reached > half + 1e-9)]
    return float(values[order][ends].mean())


def mae_by_group(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Compare predicted with chronological ages by fold and by decade of age.

    Parameters
    ----------
    table : DataFrame
        Columns ``fold``, ``chronological_age`` and ``brain_age_gap`` (years), and where people may
        have several rows, which then share their weight, ``participant_id``.

    Returns
    -------
    dict
        ``mae_by_fold``, ``mae_by_decade`` and ``bias_by_decade`` (mean gap), in years; a decade is
        named by its first year.
    """
    gap = table["brain_age_gap"]
    decade = (table["chronological_age"] // 10 * 10).astype(int)
    people = table.get("participant_id", pd.Series(range(len(table)), index=table.index))

    def means(values: pd.Series, by: pd.Series) -> dict[str, float]:
        # Everybody who is in a group counts alike in it, with however many rows.
        share = 1.0 / values.groupby([by, people]).transform("size")
        sums = (values * share).groupby(by).sum() / share.groupby(by).sum()
        return {str(key): float(value) for key, value in sums.items()}

    return {
        name: means(values, by)
        for name, values, by in (
            ("mae_by_fold", gap.abs(), table["fold"]),
            ("mae_by_decade", gap.abs(), decade),
            ("bias_by_decade", gap, decade),
        )
    }
