"""The files of a cohort's maps: mean, variability, effects and tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.assets import template
from ermoe_ba.atlas import Atlas
from ermoe_ba.io import write_json, write_volume
from ermoe_ba.maps.agreement import expert_table
from ermoe_ba.maps.cohort import CohortMaps
from ermoe_ba.maps.effects import Effect, effect_table, measure_effects
from ermoe_ba.maps.enrichment import Reach, cohort_region_table
from ermoe_ba.maps.files import (
    ATLAS,
    DESCRIPTION,
    EFFECTS,
    EXPERT_LABELS,
    EXPERTS,
    MEAN_WEIGHTS,
    MEAN_YEARS,
    PARTICIPANTS,
    REGIONS,
    TRAINING,
    WEIGHTS_SD,
    WINNERS,
    YEARS_SD,
    effect_stems,
    remove_earlier,
)
from ermoe_ba.maps.layout import TokenPlaces
from ermoe_ba.maps.overlap import RegionOverlap
from ermoe_ba.model_card import ModelCard
from ermoe_ba.software import software
from ermoe_ba.space import Volume
from ermoe_ba.tables import write_table

# False discovery rate below which a region is named to the user.
Q_NAMED = 0.05


@dataclass(frozen=True, kw_only=True)
class GroupMaps:
    """What was written of a cohort.

    Parameters
    ----------
    volumes : dict
        Name of a file to the map in it, on the model grid.
    tables : dict
        Name of a file to the table in it.
    description : dict
        What ``maps.json`` holds: settings, units and definitions.
    written : list of Path
        The files.
    summary : list of str
        Lines for the user: the cohort, and each expert with its most enriched region.
    remarks : tuple of str
        What the user must be warned of: a test that can find next to nothing.
    """

    volumes: dict[str, Volume]
    tables: dict[str, pd.DataFrame]
    description: dict[str, Any]
    written: list[Path]
    summary: list[str]
    remarks: tuple[str, ...] = ()


def write_group_maps(
    cohort: CohortMaps,
    atlas: Atlas,
    folder: Path,
    *,
    group_column: str | None,
    permutations: int,
    surrogates: int,
    seed: int,
    card: ModelCard | None = None,
) -> GroupMaps:
    """Write maps and tables of a cohort, each file whole or not at all.

    Every participant counts once, whatever the number of scans. Maps lie on the template's brain.

    Parameters
    ----------
    cohort : CohortMaps
        The cohort.
    atlas : Atlas
        For the region table.
    folder : Path
        Where to.
    group_column : str or None
        Column of the participants table that tells groups apart.
    permutations, surrogates : int
        Of the effects, and of the region table.
    seed : int
        Of both, and of the halves of the cohort.
    card : ModelCard, optional
        Of the model that predicted, for what it owes to its experts.

    Returns
    -------
    GroupMaps
        The files, the description last, and what is in them in words.

    Raises
    ------
    UsageError
        If groups were asked for that the participants table does not tell apart.
    """
    effects = measure_effects(cohort, group_column, permutations, seed)
    rng = np.random.default_rng(seed)
    overlap = RegionOverlap.of(cohort.tokens, atlas)
    tables = {
        REGIONS: cohort_region_table(cohort, overlap, surrogates, rng),
        EXPERTS: _with_errors(expert_table(cohort, overlap, rng), card),
        PARTICIPANTS: cohort.people,
        EXPERT_LABELS: cohort.experts,
    }
    if effects:
        tables[EFFECTS] = effect_table(cohort, effects, overlap)
    # The people of a run are the training participants themselves.
    if card is not None and not cohort.out_of_fold:
        ages = {"chronological_age": card.ages, "predicted_age": card.predictions}
        tables[TRAINING] = pd.DataFrame(ages)
    volumes = {ATLAS: atlas.dseg, **_volumes(cohort, effects)}
    reach = Reach.of(tables[REGIONS], surrogates)
    description = {
        **_description(cohort, atlas, effects),
        "permutations": permutations,
        "surrogates": surrogates,
        "region_tests": reach.tests,
        "smallest_q": reach.smallest_q,
        "coverage": None if card is None else card.coverage,
        "training_participants": len(tables.get(TRAINING, ())),
        "model_mae": None if card is None else card.mae_with_all_experts,
        "model_mae_interfered": {} if card is None else card.mae_interfered,
        "seed": seed,
    }
    written = [folder / name for name in (*volumes, *tables, DESCRIPTION)]
    remove_earlier(folder)
    for name, volume in volumes.items():
        write_volume(folder / name, volume)
    for name, table in tables.items():
        write_table(folder / name, table)
    write_json(written[-1], description)
    return GroupMaps(
        volumes=volumes,
        tables=tables,
        description=description,
        written=written,
        summary=_summary(cohort, tables[REGIONS], tables[EXPERTS]),
        remarks=_remarks(reach),
    )


def _volumes(cohort: CohortMaps, effects: list[Effect]) -> dict[str, Volume]:
    """Return the maps by file name, on the model grid."""
    places = TokenPlaces.of(cohort.tokens, template("desc-brain_mask"))
    weights_te = cohort.weights_pte.mean(axis=0, dtype=np.float64)
    total_pt = cohort.years_pte.sum(axis=2, dtype=np.float64)
    volumes = {
        MEAN_WEIGHTS: places.weights(weights_te),
        WINNERS: places.winners(weights_te),
        MEAN_YEARS: places.years(total_pt.mean(axis=0)),
    }
    if len(total_pt) > 1:
        spread_te = cohort.weights_pte.std(axis=0, ddof=1)
        volumes |= {
            WEIGHTS_SD: places.weights(spread_te),
            YEARS_SD: places.years(total_pt.std(axis=0, ddof=1)),
        }
    for effect, stem in zip(effects, effect_stems([e.name for e in effects]), strict=True):
        volumes[f"{stem}_stat-effect_map.nii.gz"] = places.years(effect.years_te.sum(axis=1))
        volumes[f"{stem}_stat-t_map.nii.gz"] = places.weights(effect.t_tv)
        volumes[f"{stem}_stat-logp_map.nii.gz"] = places.weights(effect.logp_tv)
    return volumes


def _with_errors(experts: pd.DataFrame, card: ModelCard | None) -> pd.DataFrame:
    """Say of each expert whether the model owes it anything at all."""
    if card is None or card.mae_with_all_experts is None:
        return experts
    without = experts["expert"].map(card.mae_without_expert)
    return experts.assign(mae_without=without, mae_lost=without - card.mae_with_all_experts)


def _description(cohort: CohortMaps, atlas: Atlas, effects: list[Effect]) -> dict[str, Any]:
    people = cohort.people
    experts = cohort.experts["name"].tolist()
    return {
        "participants": len(people),
        "scans": int(people["scans"].sum()),
        "participants_of_known_age": int(people["chronological_age"].notna().sum()),
        "mean_predicted_age": float(people["predicted_age"].mean()),
        "baseline_years": cohort.baseline_years,
        "model_id": cohort.model_id,
        "members": len(cohort.member_stems),
        "out_of_fold": cohort.out_of_fold,
        "experts": experts,
        "effects": {
            effect.name: {
                "model": effect.meaning,
                "participants": effect.participants,
                "files": f"{stem}_stat-*_map.nii.gz",
            }
            for effect, stem in zip(effects, effect_stems([e.name for e in effects]), strict=True)
        },
        "effect_channels": ["contribution", *experts],
        "units": {
            MEAN_YEARS: "years a voxel; sum plus baseline_years is mean_predicted_age",
            YEARS_SD: "standard deviation between participants "
            "of a token's years, spread over its voxels",
            "stat-effect": "years a voxel that a unit of the effect adds (a year of age, a year of "
            "gap, or the group); their sum is what it adds to predicted_age",
            ATLAS: "index of each voxel in regions.tsv, 0 for none",
            "smallest_q": "q of one row of regions.tsv alone that no surrogate reaches, corrected "
            "over region_tests p values; of k such rows a k-th",
            "model_mae": "years, out of fold on the training cohort; model_mae_interfered with all "
            "experts zeroed, with random routing, with other people's routing",
            "coverage": "share of new people whose age the intervals of participants.tsv are made "
            "to hold; of the model's own training cohort they hold about that by construction",
            "stat-logp": "-log10 of the p value, family-wise over tokens and maps",
        },
        "atlas": atlas.name,
        "atlas_licence": atlas.licence,
        "atlas_sampling": atlas.sampling,
        "template": cohort.tokens.grid.describe(),
        "token_mm": [float(mm) for mm in cohort.tokens.lattice.voxel_sizes],
        "software": software(),
    }


def _summary(cohort: CohortMaps, regions: pd.DataFrame, experts: pd.DataFrame) -> list[str]:
    lines = [f"{len(cohort.people)} participants, {int(cohort.people['scans'].sum())} scans."]
    for expert in experts.to_dict("records"):
        named = (regions["expert"] == expert["expert"]) & (regions["enrichment_q"] < Q_NAMED)
        enriched = regions[named & (regions["enrichment_log2"] > 0)].to_dict("records")
        where = f"no region enriched (q < {Q_NAMED:g})"
        if enriched:
            best = max(enriched, key=lambda row: float(row["enrichment_log2"]))
            where = (
                f"most enriched in {best['region']} ({best['hemisphere']}), "
                f"log2 {best['enrichment_log2']:.2f}"
            )
        lines.append(f"{expert['expert']} ({expert['kind']}): load {expert['load']:.1%}, {where}")
    return lines


def _remarks(reach: Reach) -> tuple[str, ...]:
    if reach.smallest_q <= Q_NAMED:
        return ()
    return (
        f"{reach.surrogates} surrogates are too few for {reach.tests} tests of regions: one alone "
        f"cannot come below q = {reach.smallest_q:.2g}. For q = {Q_NAMED:g}, give --surrogates "
        f"{reach.surrogates_for(Q_NAMED)} or more, or an atlas of fewer regions.",
    )
