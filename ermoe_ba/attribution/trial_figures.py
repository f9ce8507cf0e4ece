"""What a trial comes to: its maps held against where the ageing was planted, in numbers.

Shapes: N subjects, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.attribution.trial import NETWORKS, NULLS, Trial, age_map
from ermoe_ba.localisation import enrichment, rank_agreement, token_auc, voxel_auc
from ermoe_ba.space import Array

# Maps that no network made: the share of each token's brain that lies in the region, which is what
# a perfect map of this lattice could show; and all importance in the token of the largest share,
# which no map of this lattice can be more enriched than.
IDEAL, PUREST = "ideal", "purest_token"


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What the map of a planted cohort is held to.

    Parameters
    ----------
    enrichment_ratio : float
        Its enrichment, at least so many times the untrained network's.
    token_auc : float
        Its AUC over tokens, at least.
    least_share : float
        A token belongs to the region if at least this share of its brain lies there (0 to 1).
    """

    enrichment_ratio: float
    token_auc: float
    least_share: float


def trial_maps(trial: Trial, ages_n: Array, region_t: Array, brain_t: Array) -> dict[str, Array]:
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
        Name to importance, shape (T,), 0 or more: `IDEAL` and `PUREST`; of each network of
        `NETWORKS`, absolute slopes on age and, as ``<name>_mean``, mean absolute years; of each
        method, as ``<name>_compared``, what it makes of the trained networks.
    """
    share_t = np.divide(region_t, brain_t, out=np.zeros_like(region_t), where=brain_t > 0)
    return {
        IDEAL: share_t,
        PUREST: np.where(np.arange(len(share_t)) == share_t.argmax(), 1.0, 0.0),
        **{name: age_map(trial.years[name], ages_n) for name in NETWORKS},
        **{f"{name}_mean": np.abs(trial.years[name]).mean(axis=0) for name in NETWORKS},
        **{f"{name}_compared": values for name, values in trial.mean_absolute.items()},
    }


def map_figures(
    trial: Trial, maps: dict[str, Array], region_t: Array, brain_t: Array, least_share: float
) -> dict[str, dict[str, float | None]]:
    """Return the figures of each map.

    Parameters
    ----------
    trial : Trial
        The trial.
    maps : dict
        From `trial_maps`.
    region_t, brain_t : ndarray
        As for `trial_maps`.
    least_share : float
        As in `Targets`.

    Returns
    -------
    dict
        Map to ``enrichment``, ``voxel_auc``, ``token_auc``; ``like_trained``, rank agreement with
        the trained network's map of the same kind; ``insertion`` and ``deletion``, areas under the
        curves of a method, None of other maps. The row ``random_order`` has these areas alone.
    """
    figures: dict[str, dict[str, float | None]] = {}
    for name, values in maps.items():
        curve = trial.curves.get(name.removesuffix("_compared"))
        kin = "trained_mean" if name.endswith(("_mean", "_compared")) else "trained"
        figures[name] = {
            "enrichment": enrichment(values, region_t, brain_t),
            "voxel_auc": voxel_auc(values, region_t, brain_t),
            "token_auc": token_auc(values, region_t, brain_t, least_share),
            "like_trained": rank_agreement(maps[kin], values),
            "insertion": None if curve is None else curve.insertion_area,
            "deletion": None if curve is None else curve.deletion_area,
        }
    chance = trial.curves["random_order"]
    figures["random_order"] = {
        **dict.fromkeys(("enrichment", "voxel_auc", "token_auc", "like_trained")),
        "insertion": chance.insertion_area,
        "deletion": chance.deletion_area,
    }
    return figures


def agreement_of_halves(trial: Trial, ages_n: Array) -> float:
    """Return the rank agreement of the trained map between every other subject and the rest.

    Parameters
    ----------
    trial : Trial
        The trial.
    ages_n : ndarray, shape (N,)
        Chronological ages of its subjects in years, in its order.

    Returns
    -------
    float
        From -1 to 1.
    """
    first = np.arange(len(ages_n)) % 2 == 0
    years_nt = trial.years["trained"]
    return rank_agreement(*(age_map(years_nt[half], ages_n[half]) for half in (first, ~first)))


def curve_rows(cohort: str, trial: Trial) -> list[dict[str, str | float]]:
    """Return the curves of a trial as rows of a table.

    Parameters
    ----------
    cohort : str
        What the rows are of.
    trial : Trial
        The trial.

    Returns
    -------
    list of dict
        ``cohort``, ``method``, ``share`` of the tokens, ``insertion`` and ``deletion``.
    """
    return [
        {"cohort": cohort, "method": method, "share": s, "insertion": i, "deletion": d}
        for method, curve in trial.curves.items()
        for s, i, d in zip(
            curve.share_s.tolist(),
            curve.insertion_s.tolist(),
            curve.deletion_s.tolist(),
            strict=True,
        )
    ]


def verdict(
    figures: dict[str, dict[str, float]], ages: dict[str, float], floor: float, targets: Targets
) -> dict[str, float | bool]:
    """Hold a trial against its targets.

    Parameters
    ----------
    figures : dict
        From `map_figures`.
    ages : dict
        ``mae`` of the trained networks and ``median_mae``, in years.
    floor : float
        Least error that the planted volumes allow, in years.
    targets : Targets
        What is wanted.

    Returns
    -------
    dict
        ``learnt``: whether the error lies nearer to the floor than to the median's, without which
        no map can be right; ``times_<null>``: enrichment as a multiple of each null's;
        ``times_at_most``: the same of the map that is enriched most, against the untrained
        network's; ``way_to_ideal``: how far enrichment has come from the untrained network's (0) to
        the ideal map's (1); ``enrichment_met``, ``auc_met``; ``met``, whether both are and the cohort
        was learnt.
    """
    trained, untrained = figures["trained"], figures["untrained"]["enrichment"]
    times = {f"times_{n}": trained["enrichment"] / figures[n]["enrichment"] for n in NULLS}
    ideal = figures[IDEAL]["enrichment"]
    learnt = ages["mae"] < (ages["median_mae"] + floor) / 2
    enriched = times["times_untrained"] >= targets.enrichment_ratio
    told_apart = trained["token_auc"] >= targets.token_auc
    return {
        "learnt": learnt,
        **times,
        "times_at_most": figures[PUREST]["enrichment"] / untrained,
        "way_to_ideal": (trained["enrichment"] - untrained) / (ideal - untrained),
        "enrichment_met": enriched,
        "auc_met": told_apart,
        "met": learnt and enriched and told_apart,
    }


def cohort_table(parts: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return what was learnt of each planted cohort, what held, and what the experts were worth.

    Parameters
    ----------
    parts : mapping
        Cohort to what is known of its trial: ``stem``, ``subjects``, ``shape_variation``,
        ``share_of_brain``, ``stem_follows``, ``ages``, ``floor_planted_volumes``, ``verdict``,
        ``agreement_of_halves`` and ``probe``.

    Returns
    -------
    DataFrame
        One row a cohort; errors in years.
    """
    told = ("stem", "subjects", "shape_variation", "share_of_brain", "stem_follows")
    rows = [
        {
            "cohort": name,
            **{key: part[key] for key in told},
            "mae": part["ages"]["mae"],
            "floor": part["floor_planted_volumes"],
            "median_mae": part["ages"]["median_mae"],
            **part["verdict"],
            "halves": part["agreement_of_halves"],
            "mae_random_routing": part["probe"]["mae_random_routing"],
            "mae_least_without_expert": min(part["probe"]["mae_without_expert"]),
        }
        for name, part in parts.items()
    ]
    return pd.DataFrame(rows)


def map_table(parts: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row a cohort and map, as `map_figures` tells of it.

    Parameters
    ----------
    parts : mapping
        Cohort to its ``maps``, from `map_figures`.

    Returns
    -------
    DataFrame
        ``cohort``, ``map``, and figures, NaN where a map has none.
    """
    rows = [
        {"cohort": name, "map": key, **figures}
        for name, part in parts.items()
        for key, figures in part["maps"].items()
    ]
    table = pd.DataFrame(rows).set_index(["cohort", "map"])
    # None, of what a map does not have, is no number of a column.
    return table.astype(float).reset_index()
