"""Maps of a trial: everything that is held against where the ageing was planted.

Shapes: N subjects, D draws of a network, T tokens.
"""

from dataclasses import dataclass

import numpy as np

from ermoe_ba.attribution.trial import NETWORKS, Trial, age_map
from ermoe_ba.space import Array

# Maps that no network made: the share of each token's brain that lies in the region, which is what
# a perfect map of this lattice could show; and all importance in the token of the largest share,
# which no map of this lattice can be more enriched than.
IDEAL, PUREST = "ideal", "purest_token"
# What is made of the contributions of all held-out subjects: by this networks are compared; and the
# mean absolute years, which is what other methods have as well.
SLOPE, MEAN = "slope_on_age", "mean_contribution"


@dataclass(frozen=True)
class TrialMap:
    """A map, and how it came about.

    Parameters
    ----------
    network : str or None
        One of `NETWORKS`; None of `IDEAL` and `PUREST`.
    method : str
        `SLOPE`, `MEAN`, one of `METHODS`, or the name of the map that no network made.
    scans : int
        How many scans it was made from.
    importance_dt : ndarray, shape (D, T)
        0 or more; one map a draw of the network, of all folds' networks together.
    single_st : ndarray, shape (S, T), or None
        The same of each network by itself, from the subjects of its own fold, fold by fold within a
        draw; None where the map is no slope on age, or a fold's subjects are all of one age.
    """

    network: str | None
    method: str
    scans: int
    importance_dt: Array
    single_st: Array | None = None


def trial_maps(trial: Trial, ages_n: Array, region_t: Array, brain_t: Array) -> dict[str, TrialMap]:
    """Return all maps that a trial is judged by.

    Parameters
    ----------
    trial : Trial
        From `run_trial`.
    ages_n : ndarray
        The subjects' ages in years.
    region_t, brain_t : ndarray
        Volume of the planted region and of the brain in each token.

    Returns
    -------
    dict
        By name: `IDEAL` and `PUREST`; of each network of `NETWORKS`, by its own name, absolute
        slopes on age and, as ``<network>_mean``, mean absolute years; as ``<network>_<method>``,
        what a method makes of the networks of `ASKED`.
    """
    share_t = np.divide(region_t, brain_t, out=np.zeros_like(region_t), where=brain_t > 0)
    purest_t = np.where(np.arange(len(share_t)) == share_t.argmax(), 1.0, 0.0)
    maps = {
        name: TrialMap(None, name, 0, values[None])
        for name, values in ((IDEAL, share_t), (PUREST, purest_t))
    }
    for name in NETWORKS:
        years_dnt = trial.years[name]
        slopes_dt = np.stack([age_map(years_nt, ages_n) for years_nt in years_dnt])
        maps[name] = TrialMap(name, SLOPE, len(ages_n), slopes_dt, _single(trial, name, ages_n))
        mean_dt = np.abs(years_dnt).mean(axis=1)
        maps[f"{name}_mean"] = TrialMap(name, MEAN, len(ages_n), mean_dt)
    for name, answers in trial.answers.items():
        for method, values_dt in answers.mean_absolute.items():
            maps[f"{name}_{method}"] = TrialMap(name, method, answers.scans, values_dt)
    return maps


def _single(trial: Trial, name: str, ages_n: Array) -> Array | None:
    """Return the slopes on age of each of a trial's networks by itself, shape (S, T)."""
    folds = [trial.fold_n == fold for fold in np.unique(trial.fold_n)]
    if any(np.ptp(ages_n[held_n]) == 0 for held_n in folds):
        return None
    pairs = [(years_nt, held_n) for years_nt in trial.years[name] for held_n in folds]
    return np.stack([age_map(years_nt[held_n], ages_n[held_n]) for years_nt, held_n in pairs])
