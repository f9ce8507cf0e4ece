"""The tables of a cohort's maps as text: which columns a page shows, and how their cells read."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ermoe_ba.report.content import in_words, signed

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
    ("load_sd", "± SD", 3, False),
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


def shown_table(columns: Columns, table: pd.DataFrame) -> ShownTable:
    """Write out the columns of a table that a page shows.

    Parameters
    ----------
    columns : tuple of tuple
        Of each, its name in the table, its heading, its decimals (None where it holds text), and
        whether its sign is told.
    table : DataFrame
        With those columns; numbers that are not known are not numbers.

    Returns
    -------
    ShownTable
        Rows in the order of the table.
    """
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
