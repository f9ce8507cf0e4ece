"""Localisation: how well a map of importance over tokens points to a region.

Shapes: N scans, T tokens.

Importance is any non-negative number a token; regions and brain are volumes a token, so that a
token that lies half in a region counts for both sides. The lattice sets a ceiling: tokens of 16 mm
cannot draw a hippocampus. It is measured by the same figures, of the map that gives each token the
share of its brain that lies in the region.
"""

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from ermoe_ba.space import Array


def slope_on_age(years_nt: Array, ages_n: Array) -> Array:
    """Return by how many years a year of age changes what each token adds.

    ``cov(years, age) / var(age)``. Over all tokens the slopes add up to that of the predicted age:
    they say where it was read. What a network makes of differences that have nothing to do with
    age, however large, averages out.

    Parameters
    ----------
    years_nt : ndarray, shape (N, T)
        Years that each token adds in scans that the network was not trained on.
    ages_n : ndarray, shape (N,)
        Chronological ages, not all equal.

    Returns
    -------
    ndarray, shape (T,)
        Years a year.
    """
    unlike = ages_n - ages_n.mean()
    return np.asarray(unlike @ (years_nt - years_nt.mean(axis=0)) / (unlike @ unlike))


def enrichment(importance_t: Array, region_t: Array, brain_t: Array) -> float:
    """Return how many times its fair share of a map's importance a region holds.

    ``E = (sum_t m_t r_t / b_t) / (sum_t m_t) / (sum_t r_t / sum_t b_t)``: a token's importance m is
    spread evenly over its brain b, of which r lies in the region. 1 where importance does not care.

    Parameters
    ----------
    importance_t : ndarray, shape (T,)
        0 or more, not all 0.
    region_t, brain_t : ndarray, shape (T,)
        Volume of the region and of the brain in each token, in one unit; ``0 <= r <= b``. Tokens
        without brain do not count.

    Returns
    -------
    float
        0 to the reciprocal of the region's share of the brain.

    Raises
    ------
    ValueError
        If the map is 0 everywhere or negative somewhere, or the region lies in no token.
    """
    importance, region, brain = _checked(importance_t, region_t, brain_t)
    held = (importance * region / brain).sum() / importance.sum()
    return float(held / (region.sum() / brain.sum()))


def voxel_auc(importance_t: Array, region_t: Array, brain_t: Array) -> float:
    """Return how surely a map tells voxels of a region from other voxels of the brain.

    The probability that a voxel drawn from the region lies in a token of greater importance than a
    voxel drawn from the rest of the brain, ties counted half (area under the receiver operating
    characteristic, tokens weighted by their volumes inside and outside the region).

    Parameters
    ----------
    importance_t, region_t, brain_t : ndarray, shape (T,)
        As for `enrichment`.

    Returns
    -------
    float
        0 to 1; a half for a map that does not know.

    Raises
    ------
    ValueError
        As `enrichment`, or if nothing of the brain lies outside the region.
    """
    importance, region, brain = _checked(importance_t, region_t, brain_t)
    outside = brain - region
    if not outside.sum() > 0:
        raise ValueError("Some of the brain must lie outside the region; found none.")
    inside_or_not = np.repeat([1, 0], len(importance))
    weights = np.concatenate([region, outside])
    return float(roc_auc_score(inside_or_not, np.tile(importance, 2), sample_weight=weights))


def token_auc(importance_t: Array, region_t: Array, brain_t: Array, least_share: float) -> float:
    """Return how surely a map tells tokens that hold some of a region from those that do not.

    Tokens that hold some, but less than asked for, are left out: they are neither.

    Parameters
    ----------
    importance_t, region_t, brain_t : ndarray, shape (T,)
        As for `enrichment`.
    least_share : float
        A token belongs to the region if at least this share of its brain lies there (0 to 1).

    Returns
    -------
    float
        0 to 1; a half for a map that does not know.

    Raises
    ------
    ValueError
        As `enrichment`, or if no token belongs to the region, or none lies outside it.
    """
    importance, region, brain = _checked(importance_t, region_t, brain_t)
    belongs, apart = region / brain >= least_share, region == 0
    if not belongs.any() or not apart.any():
        raise ValueError(
            f"Some tokens must hold {least_share:g} of the region, and some nothing of it; found "
            f"{belongs.sum()} and {apart.sum()}."
        )
    told = belongs | apart
    return float(roc_auc_score(belongs[told], importance[told]))


def rank_agreement(one_t: Array, other_t: Array) -> float:
    """Return Spearman's correlation of two maps, -1 to 1; 0 where one of them is constant.

    The figure by which Adebayo 2018 (arXiv 1810.03292) asks whether a map depends on what a network
    has learnt.

    Parameters
    ----------
    one_t, other_t : ndarray, shape (T,)
        Values by token, in any unit.

    Returns
    -------
    float
        By ranks, ties sharing theirs.
    """
    if np.ptp(one_t) == 0 or np.ptp(other_t) == 0:
        return 0.0
    return float(spearmanr(one_t, other_t).statistic)


def _checked(importance_t: Array, region_t: Array, brain_t: Array) -> tuple[Array, Array, Array]:
    """Return the tokens that hold brain, in double precision."""
    importance, region, brain = (
        np.asarray(values, dtype=np.float64) for values in (importance_t, region_t, brain_t)
    )
    if not importance.shape == region.shape == brain.shape:
        raise ValueError(
            f"One value a token each; found {importance.shape}, {region.shape}, {brain.shape}."
        )
    if (region < 0).any() or (region > brain * (1 + 1e-9)).any():
        raise ValueError("A token's region must lie within its brain: 0 <= region <= brain.")
    held = brain > 0
    importance, region, brain = importance[held], region[held], brain[held]
    if (importance < 0).any() or not importance.sum() > 0:
        raise ValueError("Importance must be 0 or more, and above 0 somewhere.")
    if not region.sum() > 0:
        raise ValueError("The region must lie in some token; found it in none.")
    return importance, region, brain
