"""Maps of a small cohort, which several tests show: one weighty spot, two regions, two experts."""

import numpy as np
import pandas as pd

from ermoe_ba.assets import template
from ermoe_ba.atlas import Atlas
from ermoe_ba.maps.files import (
    EFFECTS,
    EXPERT_LABELS,
    EXPERTS,
    MEAN_WEIGHTS,
    MEAN_YEARS,
    REGIONS,
    YEARS_ON_AGE,
)
from ermoe_ba.maps.group import GroupMaps
from ermoe_ba.tables import COHORT_REGION_COLUMNS, EFFECT_COLUMNS, EXPERT_COLUMNS

# A voxel of the right frontal lobe, whose years a year of age are the largest.
SPOT = (62, 80, 45)
MASK = template("desc-brain_mask")


def atlas() -> Atlas:
    """Left is 3, right is 7."""
    side = np.where(np.indices(MASK.data.shape)[0] < 45, 3, 7)
    labels = pd.DataFrame({"index": [3, 7], "name": ["Half & half"] * 2, "hemisphere": ["L", "R"]})
    return Atlas(
        name="halves",
        dseg=MASK.same_grid(np.where(MASK.data > 0, side, 0).astype(np.int32)),
        labels=labels,
        licence="",
    )


def group_maps(*, ages: bool = True, mae_without: tuple[float, float] = (6.12, 5.04)) -> GroupMaps:
    """Experts without which the model's error, 5 years, is so large."""
    brain = MASK.data > 0
    weights = np.zeros((*brain.shape, 2), dtype=np.float32)
    weights[brain] = (0.7, 0.3)
    years = np.where(brain, 1e-7, 0.0).astype(np.float32)
    years[SPOT] = 1e-4
    volumes = {MEAN_WEIGHTS: MASK.same_grid(weights), MEAN_YEARS: MASK.same_grid(-years)}
    regions = pd.DataFrame(
        [
            {
                "expert": expert,
                "kind": kind,
                "index": index,
                "region": "Half & half",
                "hemisphere": side,
                "enrichment_log2": enriched,
                "contribution_on_age": slope if ages else np.nan,
            }
            for expert, kind in (("csf", "regional"), ("free_1", "free"))
            for index, side, enriched, slope in ((3, "L", 0.5, 0.01), (7, "R", -0.5, 0.02))
        ]
    ).reindex(columns=list(COHORT_REGION_COLUMNS))
    experts = pd.DataFrame(
        {
            "expert": ["csf", "free_1"],
            "kind": ["regional", "free"],
            "load": [0.7, 0.3],
            "weight_r_seeds": [0.71, np.nan],
            "weight_r_folds": [0.62, np.nan],
            "mae_without": mae_without,
            "mae_lost": np.array(mae_without) - 5.0,
        }
    ).reindex(columns=list(EXPERT_COLUMNS))
    labels = pd.DataFrame({"index": [1, 2], "name": experts["expert"], "kind": experts["kind"]})
    tables = {REGIONS: regions, EXPERTS: experts, EXPERT_LABELS: labels}
    if ages:
        volumes[YEARS_ON_AGE] = MASK.same_grid(years)
        row = {"effect": "age", "map": "csf", "participants": 9, "peak_region": "Half & half"}
        tables[EFFECTS] = pd.DataFrame([row]).reindex(columns=list(EFFECT_COLUMNS))
    description = {
        "participants": 9,
        "scans": 11,
        "participants_of_known_age": 9 if ages else 0,
        "mean_predicted_age": 51.26,
        "members": 5,
        "out_of_fold": True,
        "model_id": "m-1",
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
    return GroupMaps(
        volumes=volumes, tables=tables, description=description, written=[], summary=[]
    )
