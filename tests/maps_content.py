"""Maps of a small cohort, which several tests show: one weighty spot, two regions, two experts."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.assets import template
from ermoe_ba.io import write_json, write_volume
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
    YEARS_ON_AGE,
)
from ermoe_ba.tables import COHORT_REGION_COLUMNS, EFFECT_COLUMNS, EXPERT_COLUMNS, write_table

# A voxel of the right frontal lobe, whose years a year of age are the largest.
SPOT = (62, 80, 45)
MASK = template("desc-brain_mask")
T_ON_AGE = "group_effect-age_stat-t_map.nii.gz"
NAMES = ("csf", "free_1")
CHANNELS = ["contribution", *NAMES]
# Years: nine people's gaps, of mean 2, of whom two lie outside of an interval of 6 on either side.
GAPS = np.array([-4.0, -2, 0, 0, 2, 2, 4, 7, 9])
# Chronological and predicted age, in years.
TRAINED = [(25.0, 30.0), (50.0, 49.0), (70.0, 66.0)]


def write_maps(
    folder: Path,
    *,
    ages: bool = True,
    mae_without: tuple[float, float] = (6.12, 5.04),
    **told: Any,
) -> Path:
    """Write what ``ermoe-ba maps`` would, but its page; return the folder.

    Experts are those without which the model's error, 5 years, is as large as said; `told` replaces
    what the description tells.
    """
    for name, volume in _volumes(ages=ages).items():
        write_volume(folder / name, volume)
    for name, table in _tables(ages=ages, mae_without=mae_without).items():
        write_table(folder / name, table)
    write_json(folder / DESCRIPTION, _description(ages=ages) | told)
    return folder


def _volumes(*, ages: bool) -> dict[str, Any]:
    """Left is 3, right is 7; years lie everywhere, and at the spot a thousand times as many."""
    brain = MASK.data > 0
    side = np.where(np.indices(brain.shape)[0] < 45, 3, 7)
    weights = np.zeros((*brain.shape, 2), dtype=np.float32)
    weights[brain] = (0.7, 0.3)
    years = np.where(brain, 1e-7, 0.0).astype(np.float32)
    years[SPOT] = 1e-4
    volumes = {
        ATLAS: MASK.same_grid(np.where(brain, side, 0).astype(np.int32)),
        MEAN_WEIGHTS: MASK.same_grid(weights),
        MEAN_YEARS: MASK.same_grid(-years),
    }
    if not ages:
        return volumes
    # Falls from left to right, from 5 to -4, and half and a quarter as much of the routing.
    t = np.where(brain, np.linspace(5, -4, brain.shape[0], dtype=np.float32)[:, None, None], 0)
    three = np.stack([t, t / 2, t / 4], axis=3)
    return volumes | {YEARS_ON_AGE: MASK.same_grid(years), T_ON_AGE: MASK.same_grid(three)}


def _tables(*, ages: bool, mae_without: tuple[float, float]) -> dict[str, pd.DataFrame]:
    regions = [
        {
            "expert": expert,
            "kind": kind,
            "index": index,
            "region": "Half & half",
            "hemisphere": side,
            "enrichment_log2": enriched,
            "contribution_on_age": slope if ages else np.nan,
        }
        for expert, kind in zip(NAMES, ("regional", "free"), strict=True)
        for index, side, enriched, slope in ((3, "L", 0.5, 0.01), (7, "R", -0.5, 0.02))
    ]
    experts = {
        "expert": NAMES,
        "kind": ["regional", "free"],
        "load": [0.7, 0.3],
        "weight_r_seeds": [0.71, np.nan],
        "weight_r_folds": [0.62, np.nan],
        "mae_without": mae_without,
        "mae_lost": np.array(mae_without) - 5.0,
    }
    known = np.arange(30.0, 75.0, 5.0)
    people = pd.DataFrame({"participant_id": list("ihgfedcba"), "scans": [3, *(1,) * 8]})
    people = people.assign(
        predicted_age=known + GAPS,
        predicted_age_lower=known + GAPS - 6,
        predicted_age_upper=known + GAPS + 6,
        chronological_age=known if ages else np.nan,
        brain_age_gap=GAPS if ages else np.nan,
        qc_flags=[*["n/a"] * 7, "noisy;unlike_training", "noisy"],
        seen_in_training=["name", *["no"] * 8],
        sex="F",
    )
    tables = {
        REGIONS: pd.DataFrame(regions).reindex(columns=list(COHORT_REGION_COLUMNS)),
        EXPERTS: pd.DataFrame(experts).reindex(columns=list(EXPERT_COLUMNS)),
        EXPERT_LABELS: pd.DataFrame({"index": [1, 2], "name": NAMES, "kind": ["regional", "free"]}),
        PARTICIPANTS: people,
        TRAINING: pd.DataFrame(TRAINED, columns=["chronological_age", "predicted_age"]),
    }
    if ages:
        row = {"effect": "age", "tokens_up": 4, "tokens_down": 1, "peak_region": "Half & half"}
        rows = [{**row, "map": name} for name in CHANNELS]
        tables[EFFECTS] = pd.DataFrame(rows).reindex(columns=list(EFFECT_COLUMNS))
    return tables


def _description(*, ages: bool) -> dict[str, Any]:
    effect = {
        "model": "along chronological age",
        "participants": 9,
        "files": "group_effect-age_stat-*_map.nii.gz",
    }
    return {
        "participants": 9,
        "scans": 11,
        "participants_of_known_age": 9 if ages else 0,
        "mean_predicted_age": 51.26,
        "members": 5,
        "out_of_fold": True,
        "coverage": 0.9,
        "training_participants": len(TRAINED),
        "model_id": "m-1",
        # 6.12 - 5 is a loss; 5.04 - 5 lies below 0.1 years.
        "model_mae": 5.0,
        "model_mae_interfered": {},
        "effects": {"age": effect} if ages else {},
        "effect_channels": CHANNELS,
        "atlas": "halves",
        "atlas_licence": "none",
        "atlas_sampling": "none",
        "permutations": 19,
        "surrogates": 19,
        # Of 8 tests: 8 * (1 + 1/2 + ... + 1/8) / 20 is above 1.
        "region_tests": 8,
        "smallest_q": 1.0,
        "seed": 0,
        "software": {"ermoe_ba": "0.1.0"},
    }
