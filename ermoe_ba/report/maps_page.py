"""The page on a cohort's maps: the interactive view over the template, and the tables."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.assets import template
from ermoe_ba.atlas import Atlas
from ermoe_ba.io import write_text
from ermoe_ba.maps.files import (
    EFFECTS,
    EXPERT_LABELS,
    EXPERTS,
    MEAN_WEIGHTS,
    MEAN_YEARS,
    REGIONS,
    YEARS_ON_AGE,
)
from ermoe_ba.maps.group import Q_NAMED, GroupMaps
from ermoe_ba.report.content import MappedBrain, in_words, signed
from ermoe_ba.report.experts import ExpertWorth
from ermoe_ba.report.figures import draw_contributions
from ermoe_ba.report.html import PRINTED_ROWS, SCRIPTS, STYLES
from ermoe_ba.report.page import data_uri, environment, inline
from ermoe_ba.report.viewer import ShownMap, describe, lay_out, pack
from ermoe_ba.space import Volume

# Voxels whose median sets white matter to 1, as preprocessing does with a scan's: probability 0.9,
# stored as 0 to 255.
SURELY_WHITE = 0.9 * 255
# Of the tables: column, heading, decimals, whether the sign is told; text has no decimals.
Columns = tuple[tuple[str, str, int | None, bool], ...]
REGION_COLUMNS: Columns = (
    ("expert", "Expert", None, False),
    ("index", "Label", None, False),
    ("region", "Region", None, False),
    ("hemisphere", "Side", None, False),
    ("volume_ml", "Volume (mL)", 1, False),
    ("mean_weight", "Mean weight", 3, False),
    ("enrichment_log2", "Enrichment (log2)", 2, True),
    ("enrichment_q", "its q", 3, False),
    ("contribution_years", "Mean years", 3, True),
    ("contribution_on_age", "Years a year of age", 4, True),
    ("on_age_q", "its q", 3, False),
)
EXPERT_COLUMNS: Columns = (
    ("expert", "Expert", None, False),
    ("kind", "Kind", None, False),
    ("load", "Load", 3, False),
    ("contribution_on_age", "Years a year of age", 3, True),
    ("weight_r_seeds", "Routing: seeds", 2, True),
    ("weight_r_folds", "folds", 2, True),
    ("weight_r_halves", "halves", 2, True),
    ("on_age_r_seeds", "Years on age: seeds", 2, True),
    ("on_age_r_folds", "folds", 2, True),
    ("on_age_r_halves", "halves", 2, True),
    ("mae_without", "Model's MAE without it", 2, False),
    ("mae_lost", "lost", 2, True),
)
EFFECT_COLUMNS: Columns = (
    ("effect", "Effect", None, False),
    ("map", "Map", None, False),
    ("years", "Years", 3, True),
    ("tokens_up", "Tokens up", 0, False),
    ("tokens_down", "Tokens down", 0, False),
    ("peak_t", "Peak t", 1, True),
    ("peak_p", "its p", 4, False),
    ("peak_region", "Where", None, False),
    ("peak_hemisphere", "Side", None, False),
)
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


def write_maps_page(path: Path, group: GroupMaps, atlas: Atlas, worth: ExpertWorth) -> None:
    """Write the page on a cohort's maps, whole or not at all.

    Parameters
    ----------
    path : Path
        Where the HTML file shall stand.
    group : GroupMaps
        The maps. Where ages are known, the years' change with age is shown: in a cohort like the
        one that the model was trained on, their means are about 0 everywhere.
    atlas : Atlas
        Whose regions the table names.
    worth : ExpertWorth
        Of the model that predicted: a map of an expert that it owes nothing says so.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    along_age = YEARS_ON_AGE in group.volumes
    told = ON_AGE if along_age else MEAN
    brain = _brain(group, atlas, YEARS_ON_AGE if along_age else MEAN_YEARS)
    experts = group.tables[EXPERTS]
    maps = _maps(brain, experts, told, worth)
    first = "contribution_on_age" if along_age else "enrichment_log2"
    regions = group.tables[REGIONS].sort_values(first, ascending=False, kind="stable")
    page = (
        environment()
        .get_template("maps_page.html.j2")
        .render(
            **inline(STYLES, SCRIPTS),
            group=group.description,
            content=brain,
            told=describe(brain, maps),
            volumes=data_uri("application/gzip", pack(brain, maps)),
            maps=maps,
            words={
                "figure": 1,
                "title": "The maps over the template.",
                "years": told["name"],
                "sum": told["sum"],
                "brain": "the template",
            },
            still=data_uri("image/png", draw_contributions(brain, told["label"])),
            still_said=told["said"],
            regions=_table(REGION_COLUMNS, regions),
            first=first,
            q_named=Q_NAMED,
            experts=_table(EXPERT_COLUMNS, experts),
            model_mae=worth.mae,
            owed=worth.of_all,
            effects=_table(EFFECT_COLUMNS, group.tables[EFFECTS])
            if EFFECTS in group.tables
            else None,
            printed_rows=PRINTED_ROWS,
        )
    )
    write_text(path, page)


def _brain(group: GroupMaps, atlas: Atlas, years: str) -> MappedBrain:
    """Return the template's brain with the cohort's maps over it."""
    t1w, mask = template("desc-brain_T1w"), template("desc-brain_mask")
    white = template("label-WM_probseg").data > SURELY_WHITE
    grey = t1w.data.astype(np.float32) / float(np.median(t1w.data[white]))
    return MappedBrain(
        t1w=Volume(grey, t1w.grid),
        brain_mask=mask,
        template=t1w,
        atlas=atlas.dseg,
        experts=group.volumes[MEAN_WEIGHTS],
        expert_names=tuple(group.tables[EXPERT_LABELS]["name"]),
        contributions=group.volumes[years],
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
        "Regional: it serves its tissue by construction."
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


@dataclass(frozen=True)
class ShownTable:
    """A table as text.

    Parameters
    ----------
    heads : list of tuple
        Of each column, its name in the files, its heading, and whether it holds numbers.
    rows : list of list of tuple
        Of each cell, its text and, in columns of numbers, the number that it is sorted by.
    """

    heads: list[tuple[str, str, bool]]
    rows: list[list[tuple[str, float | None]]]


def _table(columns: Columns, table: pd.DataFrame) -> ShownTable:
    heads = [(name, heading, decimals is not None) for name, heading, decimals, _ in columns]
    rows = [
        [_cell(name, row[name], decimals, signs) for name, _, decimals, signs in columns]
        for row in table.to_dict("records")
    ]
    return ShownTable(heads, rows)


def _cell(name: str, value: Any, decimals: int | None, signs: bool) -> tuple[str, float | None]:
    """Write what stands in a table; unknown as n/a, the minus as a minus."""
    if decimals is None:
        # Names of the package's own are turned into words; an atlas' stay as they are.
        return (in_words(str(value)) if name in ("expert", "map") else str(value)), None
    number = float(value)
    if not math.isfinite(number):
        return "n/a", math.nan
    plain = f"{number:.{decimals}f}".replace("-", "−")
    return (signed(number, decimals) if signs else plain), number
