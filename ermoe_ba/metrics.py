"""Figures of merit of predicted ages; all uncorrected."""

import numpy as np
import pandas as pd
from scipy.stats import entropy
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from ermoe_ba.space import Array


def age_metrics(chronological: Array, predicted: Array) -> dict[str, float]:
    """Compare predicted with chronological ages.

    Parameters
    ----------
    chronological, predicted : ndarray, shape (n,)
        Ages in years, n at least 2.

    Returns
    -------
    dict
        ``mae``, ``rmse`` (years), ``r`` (Pearson), ``r2`` (explained variance), ``bias`` (mean gap
        in years), ``gap_slope`` (slope of the gap on age), ``median_mae`` (years; MAE of always
        answering the median age) and ``n``.
    """
    gap = predicted - chronological
    constant = np.full_like(chronological, np.median(chronological))
    return {
        "n": float(len(chronological)),
        "mae": float(mean_absolute_error(chronological, predicted)),
        "rmse": float(root_mean_squared_error(chronological, predicted)),
        "r": float(np.corrcoef(chronological, predicted)[0, 1]),
        "r2": float(r2_score(chronological, predicted)),
        "bias": float(gap.mean()),
        "gap_slope": float(np.polyfit(chronological, gap, 1)[0]),
        "median_mae": float(mean_absolute_error(chronological, constant)),
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


def load_gini(load_e: Array) -> float:
    """Return the Gini coefficient of expert load: 0 where all are equal.

    ``G = sum_ij |l_i - l_j| / (2 n sum_i l_i)``.

    Parameters
    ----------
    load_e : ndarray, shape (E,)
        Share of tokens that each expert serves, not all zero.
    """
    differences = np.abs(load_e[:, None] - load_e[None, :]).sum()
    return float(differences / (2 * len(load_e) * load_e.sum()))


def load_entropy(load_e: Array) -> float:
    """Return the entropy of expert load relative to even load: 1 where all are equal.

    ``H = -sum_e p_e log p_e / log E`` with ``p = l / sum l``; 1 for a single expert.

    Parameters
    ----------
    load_e : ndarray, shape (E,)
        Share of tokens that each expert serves, not all zero.
    """
    if len(load_e) == 1:
        return 1.0
    return float(entropy(load_e, base=len(load_e)))
