"""Which expert serves which region, over a cohort, and how surely.

Shapes: P participants, M members, T tokens, E experts, R regions.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from ermoe_ba.maps.cohort import CohortMaps, age_weights
from ermoe_ba.maps.overlap import RegionOverlap
from ermoe_ba.maps.surrogates import MoranSurrogates
from ermoe_ba.space import Array
from ermoe_ba.tables import COHORT_REGION_COLUMNS


def cohort_region_table(
    cohort: CohortMaps, overlap: RegionOverlap, surrogates: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Summarise experts by region over a cohort.

    Every participant counts once. Enrichment is ``log2`` of the expert's mean weight in the region
    over its mean weight in the whole brain. Each region is held against maps of chance that are as
    smooth (`MoranSurrogates`): for the routing, how far the region's mean weight lies from the
    brain's; for the years and their slopes on age, how far those of the region lie from an even
    spread over the tokens. All p values of the table, of all kinds, are corrected together for the
    false discovery rate under any dependence (Benjamini & Yekutieli 2001), since what one expert
    gains another loses.

    Mean years are tested only where the cohort is not that of a run out of fold: there, each fold
    is held against the mean of the others, so that what one has above them, they have below it, and
    the mean over all folds of a size is 0 by construction, whatever the brain. That is known before
    the maps are: leaving them out costs no error rate, and the others a third less correction.

    Parameters
    ----------
    cohort : CohortMaps
        The cohort.
    overlap : RegionOverlap
        Of the cohort's tokens and the regions of an atlas.
    surrogates : int
        Maps of chance a map; the smallest p value is 1 / (surrogates + 1).
    rng : Generator
        Of the surrogates.

    Returns
    -------
    DataFrame
        Columns of `COHORT_REGION_COLUMNS`, one row an expert and region. Regions that have no
        voxel in the template's brain have no weight and no p value; neither do voxels that no
        region claims, the region with index 0, have p values. Slopes on age are n/a where
        `age_weights` knows none, p values of mean years in a run out of fold.
    """
    voxels_r = overlap.served_rt.sum(axis=1)
    inside = (voxels_r > 0) & (overlap.regions["index"].to_numpy() > 0)
    average_rt = overlap.served_rt / np.maximum(voxels_r, 1)[:, None]
    whole_t = overlap.share_t

    weights_te = cohort.weights_pte.mean(axis=0, dtype=np.float64)
    years_te = cohort.years_pte.mean(axis=0, dtype=np.float64)
    load_e = whole_t @ weights_te
    weight_re = average_rt @ weights_te
    by_person_pre = np.einsum("rt,pte->pre", average_rt, cohort.weights_pte, optimize=True)
    years_pre = np.einsum("rt,pte->pre", overlap.borne_rt, cohort.years_pte, optimize=True)
    members_mre = average_rt @ cohort.member_weights_mte
    above_mre = members_mre > (whole_t @ cohort.member_weights_mte)[:, None]
    above_re = above_mre.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        enrichment_re = np.log2(weight_re / load_e)

    null = MoranSurrogates(cohort.tokens.centres_mm)
    p_re3, q_re3 = (np.full((*weight_re.shape, 3), np.nan) for _ in range(2))
    p_re3[inside, :, 0] = null.p_values(average_rt[inside] - whole_t, weights_te, surrogates, rng)
    if not cohort.out_of_fold:
        p_re3[inside, :, 1] = null.p_values(overlap.borne_rt[inside], years_te, surrogates, rng)
    on_age_re = np.full(weight_re.shape, np.nan)
    on_age_p = age_weights(cohort.people["chronological_age"].to_numpy(dtype=float))
    if on_age_p is not None:
        on_age_te = np.einsum("p,pte->te", on_age_p, cohort.years_pte)
        on_age_re = overlap.borne_rt @ on_age_te
        p_re3[inside, :, 2] = null.p_values(overlap.borne_rt[inside], on_age_te, surrogates, rng)
    known = np.isfinite(p_re3)
    q_re3[known] = false_discovery_control(p_re3[known], method="by")

    def spread(values_pre: Array) -> Array:
        # One participant has no spread.
        few = np.full(values_pre.shape[1:], np.nan)
        return values_pre.std(axis=0, ddof=1) if len(values_pre) > 1 else few

    there = np.where(voxels_r > 0, 1.0, np.nan)[:, None]
    values = {
        "mean_weight": weight_re * there,
        "weight_sd": spread(by_person_pre) * there,
        "load_share": overlap.served_rt @ weights_te / np.maximum(load_e * voxels_r.sum(), 1e-300),
        "enrichment_log2": enrichment_re * there,
        "enrichment_p": p_re3[..., 0],
        "enrichment_q": q_re3[..., 0],
        # Of the members, how many say the same as most.
        "member_agreement": np.maximum(above_re, 1.0 - above_re) * there,
        "contribution_years": overlap.borne_rt @ years_te,
        "contribution_sd": spread(years_pre),
        "contribution_p": p_re3[..., 1],
        "contribution_q": q_re3[..., 1],
        "contribution_on_age": on_age_re,
        "on_age_p": p_re3[..., 2],
        "on_age_q": q_re3[..., 2],
    }
    tables = []
    for number, expert in cohort.experts.iterrows():
        table = pd.DataFrame({name: of_re[:, int(str(number))] for name, of_re in values.items()})
        table["expert"], table["kind"] = expert["name"], expert["kind"]
        table["index"] = overlap.regions["index"]
        table["region"], table["hemisphere"] = (overlap.regions[c] for c in ("name", "hemisphere"))
        table["volume_ml"] = voxels_r * overlap.voxel_ml
        tables.append(table)
    joined = pd.concat(tables, ignore_index=True)[list(COHORT_REGION_COLUMNS)]
    return joined.replace([np.inf, -np.inf], np.nan)


@dataclass(frozen=True)
class Reach:
    """How small a q value of a table of regions can be at all.

    Parameters
    ----------
    tests : int
        p values that are corrected together, at least 0.
    surrogates : int
        Maps of chance behind each.
    """

    tests: int
    surrogates: int

    @classmethod
    def of(cls, regions: pd.DataFrame, surrogates: int) -> "Reach":
        """Count the p values of a table.

        Parameters
        ----------
        regions : DataFrame
            From `cohort_region_table`.
        surrogates : int
            That it was made with.

        Returns
        -------
        Reach
        """
        ps = regions[["enrichment_p", "contribution_p", "on_age_p"]]
        return cls(int(ps.notna().to_numpy().sum()), surrogates)

    @property
    def _factor(self) -> float:
        """What Benjamini and Yekutieli multiply the smallest of the p values with."""
        return self.tests * float((1.0 / np.arange(1, self.tests + 1)).sum())

    @property
    def smallest_q(self) -> float:
        """The q, at most 1, of one row alone that no surrogate reaches; of k such rows a k-th."""
        return min(1.0, self._factor / (self.surrogates + 1))

    def surrogates_for(self, q: float) -> int:
        """Return how many surrogates bring one row alone to a q.

        Parameters
        ----------
        q : float
            Above 0, up to 1.

        Returns
        -------
        int
            The fewest whose `smallest_q` is at most `q`.
        """
        return max(1, math.ceil(self._factor / q) - 1)
