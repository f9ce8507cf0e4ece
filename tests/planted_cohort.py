"""Cohorts with maps of a few wide tokens, random or with something planted; on disk as well."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.assets import template
from ermoe_ba.atlas import Atlas
from ermoe_ba.io import write_json, write_volume
from ermoe_ba.maps.cohort import CohortMaps, age_weights
from ermoe_ba.maps.overlap import RegionOverlap
from ermoe_ba.scan_files import EXPERT_LABELS, MEMBER_WEIGHTS, MEMBER_YEARS, PREDICTION
from ermoe_ba.space import MODEL_GRID, Array
from ermoe_ba.tables import write_table
from ermoe_ba.tokens import TokenGrid

# Tokens of 24 mm on the template's brain: few enough to be quick.
TOKENS = TokenGrid.over(template("desc-brain_mask"), 12, 0.3)
EXPERTS = pd.DataFrame(
    {"index": [1, 2, 3], "name": ["csf", "free_1", "free_2"], "kind": ["regional", "free", "free"]}
)
# Two members of one fold and one of another.
STEMS = [0, 0, 1]
BASELINE = 48.0
# Where something is planted: right, in front.
SPOT = int(((TOKENS.centres_mm - [40.0, 30.0, 10.0]) ** 2).sum(axis=1).argmin())


def random_weights(rng: np.random.Generator) -> Array:
    """Random weights of each token, member and expert, summing to 1 over the experts."""
    raw = rng.uniform(0.5, 1.0, (len(TOKENS), len(STEMS), len(EXPERTS)))
    return np.asarray(raw / raw.sum(axis=2, keepdims=True))


def random_years(rng: np.random.Generator) -> Array:
    return rng.normal(0.0, 0.02, (len(TOKENS), len(STEMS), len(EXPERTS)))


def write_maps_of(folder: Path, name: str, weights: Array, years: Array, **known: Any) -> None:
    """Write what ``maps`` reads of a scan."""
    for suffix, values in {MEMBER_WEIGHTS: weights, MEMBER_YEARS: years}.items():
        by_token = values.reshape(len(TOKENS), -1).astype(np.float32)
        write_volume(folder / f"{name}_{suffix}", TOKENS.to_lattice(by_token))
    write_table(folder / f"{name}_{EXPERT_LABELS}", EXPERTS)
    content = {
        "status": "ok",
        "participant_id": name.split("_", maxsplit=1)[0].removeprefix("sub-"),
        "model_id": "m-1",
        "member_stems": STEMS,
        "baseline_years": BASELINE,
        "predicted_age": BASELINE + float(years.mean(axis=1).sum()),
        "chronological_age": 40.0,
    }
    write_json(folder / f"{name}_{PREDICTION}", {**content, **known})


def make_cohort(weights_pte: Array, years_pte: Array, **people: Any) -> CohortMaps:
    """Make a cohort of which all members say the same."""
    count = len(weights_pte)
    table = pd.DataFrame(
        {
            "participant_id": [str(n) for n in range(count)],
            "scans": 1,
            "predicted_age": BASELINE + years_pte.sum(axis=(1, 2)),
            "chronological_age": np.nan,
            "brain_age_gap": np.nan,
        }
    ).assign(**people)
    table["brain_age_gap"] = table["predicted_age"] - table["chronological_age"]
    weights_p = age_weights(table["chronological_age"].to_numpy(dtype=float))
    on_age = None if weights_p is None else np.einsum("p,pte->te", weights_p, years_pte)
    return CohortMaps(
        model_id="m-1",
        tokens=TOKENS,
        experts=EXPERTS,
        member_stems=STEMS,
        baseline_years=BASELINE,
        people=table,
        weights_pte=weights_pte.astype(np.float32),
        years_pte=years_pte.astype(np.float32),
        member_weights_mte=np.stack([weights_pte.mean(axis=0)] * 3),
        member_years_mte=np.stack([years_pte.mean(axis=0)] * 3),
        member_on_age_mte=None if on_age is None else np.stack([on_age] * 3),
        out_of_fold=False,
    )


def random_cohort(count: int, seed: int = 0, **people: Any) -> CohortMaps:
    rng = np.random.default_rng(seed)
    weights = np.stack([random_weights(rng)[:, 0] for _ in range(count)])
    return make_cohort(weights, np.stack([random_years(rng)[:, 0] for _ in range(count)]), **people)


def replaced(cohort: CohortMaps, **changes: Any) -> CohortMaps:
    return CohortMaps(**{**vars(cohort), **changes})


def quarters() -> Atlas:
    """Left and right, back and front of the brain above z = -20 mm; what is below has no label."""
    brain = template("desc-brain_mask").data > 0
    dseg = np.zeros(MODEL_GRID.shape, dtype=np.int32)
    dseg[:46], dseg[46:] = 10, 20
    dseg[:, 63:] += 5
    dseg[:, :, :26] = 0
    names = {10: "back", 15: "front", 20: "back", 25: "front"}
    labels = pd.DataFrame(
        {"index": list(names), "name": list(names.values()), "hemisphere": ["L", "L", "R", "R"]}
    )
    dseg = np.where(brain, dseg, 0)
    return Atlas(
        name="q", dseg=template("desc-brain_mask").same_grid(dseg), labels=labels, licence=""
    )


OVERLAP = RegionOverlap.of(TOKENS, quarters())
