"""What a trial comes to: its maps held against where the ageing was planted, in numbers.

Shapes: N subjects, D draws of a network, T tokens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.attribution.trial import NULLS, TRAINED, UNTRAINED, Trial, age_map
from ermoe_ba.attribution.trial_maps import IDEAL, PUREST, SLOPE, TrialMap
from ermoe_ba.localisation import enrichment, rank_agreement, token_auc, voxel_auc
from ermoe_ba.space import Array

# Of which the draws of a network are told one by one, in their least and their greatest.
RANGED = ("enrichment", "token_auc")


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


def map_figures(
    trial: Trial, maps: dict[str, TrialMap], region_t: Array, brain_t: Array, least_share: float
) -> dict[str, dict[str, Any]]:
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
        Map to ``network``, ``method``, ``scans`` and ``draws``, as in `TrialMap`; means over the
        draws of ``enrichment``, ``voxel_auc``, ``token_auc`` and ``like_trained``, rank agreement
        with the trained network's map of the same kind; ``enrichment_single`` and
        ``token_auc_single``, means over the networks one by one, since what differs between the
        networks of the folds cancels in the map of them all; of several draws, the least and the
        greatest of `RANGED` as ``<figure>_least`` and ``<figure>_most``; ``insertion`` and
        ``deletion``, areas under the curves of a method. None is what a map does not have. The rows
        ``<network>_random_order`` have these areas alone.
    """
    figures: dict[str, dict[str, Any]] = {}
    for name, each in maps.items():
        kin = maps[TRAINED if each.method in (SLOPE, IDEAL, PUREST) else f"{TRAINED}_mean"]
        by_draw = [
            {
                "enrichment": enrichment(values, region_t, brain_t),
                "voxel_auc": voxel_auc(values, region_t, brain_t),
                "token_auc": token_auc(values, region_t, brain_t, least_share),
                "like_trained": rank_agreement(kin.importance_dt[0], values),
            }
            for values in each.importance_dt
        ]
        figures[name] = {
            **_row(each.network, each.method, each.scans, len(by_draw)),
            **{key: float(np.mean([draw[key] for draw in by_draw])) for key in by_draw[0]},
        }
        if each.single_st is not None:
            alone = each.single_st
            figures[name] |= {
                "enrichment_single": _mean(enrichment(m_t, region_t, brain_t) for m_t in alone),
                "token_auc_single": _mean(
                    token_auc(m_t, region_t, brain_t, least_share) for m_t in alone
                ),
            }
        if len(by_draw) > 1:
            for key in RANGED:
                values = [draw[key] for draw in by_draw]
                figures[name] |= {f"{key}_least": min(values), f"{key}_most": max(values)}
    for network, answers in trial.answers.items():
        draws = len(trial.years[network])
        for method, curve in answers.curves.items():
            row = _row(network, method, answers.scans, draws)
            areas = {"insertion": curve.insertion_area, "deletion": curve.deletion_area}
            figures[f"{network}_{method}"] = figures.get(f"{network}_{method}", row) | areas
    return figures


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _row(network: str | None, method: str, scans: int, draws: int) -> dict[str, Any]:
    """Return the figures of a map of which nothing is known yet."""
    row: dict[str, Any] = {"network": network, "method": method, "scans": scans, "draws": draws}
    for key in ("enrichment", "voxel_auc", "token_auc", "like_trained", "insertion", "deletion"):
        ends = ("_least", "_most", "_single") if key in RANGED else ()
        row |= dict.fromkeys(f"{key}{end}" for end in ("", *ends))
    return row


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
    (years_nt,) = trial.years[TRAINED]
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
        ``cohort``, ``network``, ``method``, ``share`` of the tokens, ``insertion`` and
        ``deletion``.
    """
    made = [
        ({"cohort": cohort, "network": network, "method": method}, curve)
        for network, answers in trial.answers.items()
        for method, curve in answers.curves.items()
    ]
    return [
        {**of, "share": s, "insertion": i, "deletion": d}
        for of, curve in made
        for s, i, d in zip(
            curve.share_s.tolist(),
            curve.insertion_s.tolist(),
            curve.deletion_s.tolist(),
            strict=True,
        )
    ]


def verdict(
    figures: dict[str, dict[str, Any]], ages: dict[str, float], floor: float, targets: Targets
) -> dict[str, float | bool | None]:
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
        no map can be right; ``times_<null>``: enrichment as a multiple of each null's, of the
        untrained network's mean over its draws; ``times_untrained_least``, ``_most``: the same
        against the draw that is enriched most, and least; ``times_untrained_single``: the same of
        networks one by one, None where they have no maps of their own; ``times_at_most``: the same
        of the map that is enriched most, against the mean; ``way_to_ideal``: how far enrichment has
        come from that mean (0) to the ideal map's (1); ``enrichment_met``, ``auc_met``; ``met``,
        whether both are and the cohort was learnt.
    """
    trained, chance = figures[TRAINED], figures[UNTRAINED]
    untrained = chance["enrichment"]
    # A single draw has no range but itself.
    most, least = (chance[f"enrichment_{end}"] or untrained for end in ("most", "least"))
    times = {f"times_{n}": trained["enrichment"] / figures[n]["enrichment"] for n in NULLS}
    alone, chance_alone = (row["enrichment_single"] for row in (trained, chance))
    ideal = figures[IDEAL]["enrichment"]
    learnt = ages["mae"] < (ages["median_mae"] + floor) / 2
    enriched = times["times_untrained"] >= targets.enrichment_ratio
    told_apart = trained["token_auc"] >= targets.token_auc
    return {
        "learnt": learnt,
        **times,
        "times_untrained_least": trained["enrichment"] / most,
        "times_untrained_most": trained["enrichment"] / least,
        "times_untrained_single": alone / chance_alone if alone and chance_alone else None,
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
        ``cohort``, ``map``, ``network``, ``method``, ``scans``, and figures; NaN where a map has
        none.
    """
    rows = [
        {"cohort": name, "map": key, **figures}
        for name, part in parts.items()
        for key, figures in part["maps"].items()
    ]
    table = pd.DataFrame(rows)
    # None, of what a map does not have, is no number of a column.
    names = ("cohort", "map", "network", "method", "scans", "draws")
    return table.astype({column: float for column in table if column not in names})
