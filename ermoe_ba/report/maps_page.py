"""The page on a cohort: its people's ages and flags, the view over the template, the tables."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.assets import template
from ermoe_ba.io import write_text
from ermoe_ba.maps.files import (
    AGE,
    ATLAS,
    EFFECTS,
    EXPERTS,
    MEAN_WEIGHTS,
    MEAN_YEARS,
    PAGE,
    PARTICIPANTS,
    REGIONS,
    TRAINING,
    YEARS_ON_AGE,
)
from ermoe_ba.maps.group import Q_NAMED
from ermoe_ba.maps.kept import KeptMaps
from ermoe_ba.report.age_points_chart import draw_age_points
from ermoe_ba.report.content import MappedBrain, percent, signed
from ermoe_ba.report.effect_maps import effect_maps
from ermoe_ba.report.experts import ExpertWorth
from ermoe_ba.report.figures import draw_contributions
from ermoe_ba.report.html import PRINTED_ROWS, SCRIPTS, STYLES
from ermoe_ba.report.maps_tables import (
    EFFECT_COLUMNS,
    EXPERT_COLUMNS,
    REGION_COLUMNS,
    shown_table,
)
from ermoe_ba.report.page import PAGE_ROWS, data_uri, environment, inline
from ermoe_ba.report.people import People, draw_loads
from ermoe_ba.report.viewer import ShownMap, describe, lay_out, pack
from ermoe_ba.space import Volume

# Voxels whose median sets white matter to 1, as preprocessing does with a scan's: probability 0.9,
# stored as 0 to 255.
SURELY_WHITE = 0.9 * 255
ON_AGE = {
    "name": "Change with a year of age",
    "unit": "years a year per mL",
    "said": "All experts together: orange where older people are given more years, purple with "
    "stripes where they are given fewer. A slope over people, not a change within them.",
    "label": "Years a year of age, per mL: orange = more with age, purple = fewer",
    "sum": "Changes with age, summed over the brain, give the slope of the predicted on the "
    "chronological age.",
}
MEAN = {
    "name": "Mean contribution to the age",
    "unit": "years per mL",
    "said": "All experts together, mean over participants: orange makes this cohort look older "
    "than the one that the model was trained on, purple with stripes younger.",
    "label": "Mean contribution (years per mL): purple = younger, orange = older",
    "sum": "Mean contributions, summed over the brain and added to the baseline, give the mean "
    "predicted age.",
}


def write_maps_page(folder: Path) -> Path:
    """Write the page on a cohort's maps from its files, whole or not at all.

    The same bytes for the same files: `ermoe-ba maps` and `ermoe-ba report` both call this.

    Parameters
    ----------
    folder : Path
        What `ermoe-ba maps` wrote. Where ages are known, the years' change with age is shown: in a
        cohort like the one that the model was trained on, their means are about 0 everywhere.

    Returns
    -------
    Path
        Of the page, in the same folder.

    Raises
    ------
    UsageError
        If a file is missing, of another version or on another grid.
    ScanError
        If a map cannot be read.
    OSError
        If the page cannot be written.
    """
    kept = KeptMaps.of(folder)
    along_age = AGE in kept.description["effects"]
    told = ON_AGE if along_age else MEAN
    worth = _worth(kept)
    brain = _brain(kept, YEARS_ON_AGE if along_age else MEAN_YEARS)
    experts = kept.tables[EXPERTS]
    effects = effect_maps(kept, first=1 + len(kept.experts))
    maps = _maps(brain, experts, told, worth) + effects.maps
    people = People(kept.tables[PARTICIPANTS], kept.tables.get(TRAINING))
    coverage = kept.description["coverage"]
    interval = f"{'prediction' if coverage is None else percent(coverage)} interval"
    points = people.points(interval)
    first = "contribution_on_age" if along_age else "enrichment_log2"
    regions = kept.tables[REGIONS].sort_values(first, ascending=False, kind="stable")
    page = (
        environment()
        .get_template("maps_page.html.j2")
        .render(
            **inline(
                (*STYLES, "age_points.css"),
                (*SCRIPTS, "paged_list.js", "age_points.js", "people.js"),
            ),
            group=kept.description,
            content=brain,
            told=describe(brain, maps),
            volumes=data_uri("application/gzip", pack(brain, maps, effects.values)),
            maps=maps,
            people=people,
            count=len(people.table),
            page_rows=PAGE_ROWS,
            interval=interval,
            points=points,
            places=points.places(),
            chart=draw_age_points(points),
            gaps=people.draw_gaps(),
            loads=draw_loads(experts),
            left_out=effects.left_out,
            words={
                "figure": 2,
                "title": "The maps over the template.",
                "years": told["name"],
                "sum": told["sum"],
                "brain": "the template",
            },
            still=data_uri("image/png", draw_contributions(brain, told["label"])),
            still_said=told["said"],
            regions=shown_table(REGION_COLUMNS, regions),
            first=first,
            q_named=Q_NAMED,
            experts=shown_table(EXPERT_COLUMNS, experts),
            model_mae=worth.mae,
            owed=worth.of_all,
            effects=shown_table(EFFECT_COLUMNS, kept.tables[EFFECTS])
            if EFFECTS in kept.tables
            else None,
            printed_rows=PRINTED_ROWS,
        )
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def _worth(kept: KeptMaps) -> ExpertWorth:
    """Return what the model owes to its experts, as far as the files tell."""
    without = kept.tables[EXPERTS].set_index("expert")["mae_without"].dropna()
    return ExpertWorth(
        kept.description["model_mae"],
        {str(name): float(years) for name, years in without.items()},
        kept.description["model_mae_interfered"],
    )


def _brain(kept: KeptMaps, years: str) -> MappedBrain:
    """Return the template's brain with the cohort's maps over it."""
    t1w, mask = template("desc-brain_T1w"), template("desc-brain_mask")
    white = template("label-WM_probseg").data > SURELY_WHITE
    grey = t1w.data.astype(np.float32) / float(np.median(t1w.data[white]))
    return MappedBrain(
        t1w=Volume(grey, t1w.grid),
        brain_mask=mask,
        template=t1w,
        atlas=kept.volume(ATLAS),
        experts=kept.volume(MEAN_WEIGHTS, len(kept.experts)),
        expert_names=kept.experts,
        contributions=kept.volume(years),
    )


def _maps(
    brain: MappedBrain, experts: pd.DataFrame, told: dict[str, str], worth: ExpertWorth
) -> list[ShownMap]:
    return lay_out(
        brain,
        name=told["name"],
        unit=told["unit"],
        # Slopes are some hundred times smaller than one person's years.
        decimals=4 if told is ON_AGE else 3,
        said=told["said"],
        # What the expert is worth comes first: where that is nothing, the rest is idle.
        said_of_experts=[
            f"{worth.in_a_sentence(row['expert'])} {_said(row)}"
            for row in experts.to_dict("records")
        ],
    )


def _said(row: dict[Any, Any]) -> str:
    """Say of an expert's map how far it can be relied on."""
    kind = (
        "Regional: it serves its region by construction."
        if row["kind"] == "regional"
        else "Free: it may serve any place."
    )
    found = [
        f"{words} {signed(float(row[name]), 2)}"
        for name, words in (
            ("weight_r_seeds", "seeds of a fold"),
            ("weight_r_folds", "folds"),
            ("weight_r_halves", "halves of the cohort"),
        )
        if math.isfinite(float(row[name]))
    ]
    alike = f"Maps correlate between {', '.join(found)}." if found else "Nothing to compare it to."
    return f"{kind} {alike}"
