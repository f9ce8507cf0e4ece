"""Whether members of a model, and halves of a cohort, draw the same maps.

Shapes: P participants, M members, T tokens, E experts.
"""

from itertools import combinations

import numpy as np
import pandas as pd

from ermoe_ba.maps.cohort import CohortMaps, age_weights
from ermoe_ba.maps.overlap import RegionOverlap
from ermoe_ba.space import Array
from ermoe_ba.tables import EXPERT_COLUMNS

# Random halves of the cohort: their median moves by less than 0.01 between draws.
NUM_SPLITS = 200


def correlation(first_t: Array, second_t: Array) -> float:
    """Return Pearson's r of two maps, NaN where one of them is flat.

    Parameters
    ----------
    first_t, second_t : ndarray, shape (T,)
        Values by token, in any unit.

    Returns
    -------
    float
        -1 to 1, or NaN.
    """
    # Not by the deviations: the mean of equal values may miss them by rounding.
    if np.ptp(first_t) == 0 or np.ptp(second_t) == 0:
        return float("nan")
    first, second = first_t - first_t.mean(), second_t - second_t.mean()
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def dice(first_t: Array, second_t: Array) -> float:
    """Return the overlap of two sets, ``2 |A and B| / (|A| + |B|)``; NaN if both are empty.

    Parameters
    ----------
    first_t, second_t : ndarray of bool, shape (T,)
        Which tokens belong to each set.

    Returns
    -------
    float
        0 to 1, or NaN.
    """
    total = np.count_nonzero(first_t) + np.count_nonzero(second_t)
    return float(2 * np.count_nonzero(first_t & second_t) / total) if total else float("nan")


def expert_table(
    cohort: CohortMaps, overlap: RegionOverlap, rng: np.random.Generator
) -> pd.DataFrame:
    """Summarise each expert over a cohort, and how far its maps can be relied on.

    Members are compared in the order that the model keeps their experts in: regional ones by their
    region, free ones as they were matched in training. Members that share a stem are seeds of one
    fold; others come from different folds, that is, from other training scans, or, of a model of
    everybody, from stems that were begun apart on the same scans. These are likenesses of one
    expert of one member, over whom it saw: means over members are more alike, and so is what all
    experts say together.

    Parameters
    ----------
    cohort : CohortMaps
        The cohort.
    overlap : RegionOverlap
        Of the cohort's tokens and an atlas: loads count the brain's voxels, as enrichment does.
    rng : Generator
        Of the halves.

    Returns
    -------
    DataFrame
        Columns of `EXPERT_COLUMNS`, one row an expert; n/a where there are no two members, or
        fewer than four participants, to compare.
    """
    pairs = list(combinations(range(len(cohort.member_stems)), 2))
    stems = cohort.member_stems
    groups = {
        "seeds": [(a, b) for a, b in pairs if stems[a] == stems[b]],
        "folds": [(a, b) for a, b in pairs if stems[a] != stems[b]],
    }
    winners_mt = cohort.member_weights_mte.argmax(axis=2)
    halves = _halves(len(cohort.people), rng)
    age_p = cohort.people["chronological_age"].to_numpy(dtype=float)
    on_age_p, on_age_mte = age_weights(age_p), cohort.member_on_age_mte
    both = [(age_weights(_only(age_p, half)), age_weights(_only(age_p, ~half))) for half in halves]
    on_age_halves = [(a, b) for a, b in both if a is not None and b is not None]
    rows = []
    for number, (name, kind) in enumerate(
        zip(cohort.experts["name"], cohort.experts["kind"], strict=True)
    ):
        weights_pt, years_pt = cohort.weights_pte[..., number], cohort.years_pte[..., number]
        load_p = weights_pt.astype(np.float64) @ overlap.share_t
        row = {
            "expert": name,
            "kind": kind,
            "load": float(load_p.mean()),
            "load_sd": _sd(load_p),
            "contribution_years": float(years_pt.sum(dtype=np.float64) / len(years_pt)),
            "contribution_sd": _sd(years_pt.sum(axis=1)),
            "contribution_on_age": float("nan"),
        }
        if on_age_p is not None:
            row["contribution_on_age"] = float((on_age_p @ years_pt).sum())
        maps = {
            "weight": cohort.member_weights_mte[..., number],
            "contribution": cohort.member_years_mte[..., number],
        }
        if on_age_mte is not None:
            maps["on_age"] = on_age_mte[..., number]
        for group, members in groups.items():
            for what, of_mt in maps.items():
                row[f"{what}_r_{group}"] = _mean(
                    [correlation(of_mt[a], of_mt[b]) for a, b in members]
                )
            wins_mt = winners_mt == number
            row[f"winner_dice_{group}"] = _mean([dice(wins_mt[a], wins_mt[b]) for a, b in members])
        for what, of_pt in {"weight": weights_pt, "contribution": years_pt}.items():
            found = [correlation(of_pt[h].mean(axis=0), of_pt[~h].mean(axis=0)) for h in halves]
            row[f"{what}_r_halves"] = _median(found)
        found = [correlation(a @ years_pt, b @ years_pt) for a, b in on_age_halves]
        row["on_age_r_halves"] = _median(found)
        rows.append(row)
    # Without ages, nothing is known of slopes on them.
    return pd.DataFrame(rows).reindex(columns=list(EXPERT_COLUMNS))


def _halves(count: int, rng: np.random.Generator) -> list[Array]:
    """Return random halves of the participants, as masks; none of fewer than four."""
    if count < 4:
        return []
    first = np.arange(count) < count // 2
    return [rng.permutation(first) for _ in range(NUM_SPLITS)]


def _only(age_p: Array, half_p: Array) -> Array:
    """Return the ages of one half, those of the other unknown."""
    return np.where(half_p, age_p, np.nan)


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else float("nan")


def _sd(values: Array) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
