"""Tables: columns of those that the project writes, and how TSV is written and read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_text

# The table of ages, one row a scan, and its columns: name, and what it holds.
PREDICTIONS = "predictions.tsv"
PREDICTION_COLUMNS: dict[str, str] = {
    "participant_id": "BIDS participant, without sub-",
    "session_id": "BIDS session, without ses-; n/a where the name has none",
    "input": "the file as given; in prediction.json its path in its BIDS data set, or its name, so "
    "that shared results tell no folder of a machine",
    "status": "ok; refused (readable, but its content forbids an age) or failed: then message says "
    "why and no age is given",
    "predicted_age": "years; what the brain looks like, never corrected for chronological age",
    "predicted_age_lower": "years; lower end of the prediction interval, at least 0",
    "predicted_age_upper": "years; upper end of the prediction interval",
    "interval_widening": "times that the interval is as wide as that of a scan like the model's "
    "training cohort, at least 1; n/a where the model does not tell",
    "chronological_age": "years, from the participants table; n/a where not given",
    "brain_age_gap": "years; predicted_age minus chronological_age, uncorrected",
    "qc_flags": "remarks on the scan's quality, separated by semicolons; n/a where there are none",
    "seen_in_training": "yes: the model was trained on these voxels; name: on a participant of "
    "that name, but on other voxels; no: on neither; n/a where the model does not tell whom it "
    "was trained on, or not of all of them, or the scan could not be read",
    "model_id": "name and content hash of the model",
    "preprocessing_id": "hash of the preprocessing's settings",
    "seconds": "time spent on the scan",
    "message": "why a scan has no age, or would have none without --force: what must hold, what "
    "was found, what to do",
}

# Those that results of earlier versions lack.
LATER_COLUMNS = ("seen_in_training",)

# <name>_regions.tsv, one row an expert and region.
REGION_COLUMNS: dict[str, str] = {
    "expert": "expert of the read-out layer",
    "index": "value in the atlas image",
    "region": "name of the region",
    "hemisphere": "L, R or n/a",
    "volume_ml": "millilitres of the region inside this scan's brain mask, on the model grid",
    "mean_weight": "mean routing weight of the expert in the region, 0 to 1",
    "load_share": "share of the expert's load in the brain that falls into the region, 0 to 1",
    "enrichment_log2": "log2 of mean_weight over its mean in the brain; n/a where that is 0",
    "contribution_years": "years that the expert adds in the region, relative to the baseline",
}

# predictions_evaluated.tsv, one row a scan: what `evaluate` adds to the rows it was given. Each
# number of a row was fitted on the other folds.
EVALUATED_COLUMNS: dict[str, str] = {
    "fold": "the fold whose model predicted the row, not having seen its participant",
    "calibration_fold": "made where the table had no folds: what is fitted for a row was fitted on "
    "the others' participants",
    "brain_age_gap": PREDICTION_COLUMNS["brain_age_gap"],
    "expected_gap_size": "years; mean absolute gap of people of the nearest predicted ages",
    **{
        f"predicted_age_{end}_{level}": f"years; {end} end of the {level} % prediction interval "
        "(conformal, in proportion to expected_gap_size)"
        for level in (80, 90, 95)
        for end in ("lower", "upper")
    },
    "corrected_age_cole": "years; (predicted_age - intercept) / slope, after Cole et al. 2018. Its "
    "accuracy must not be quoted",
    "corrected_gap_cole": "years; corrected_age_cole minus chronological_age",
    "corrected_age_beheshti": "years; predicted_age minus the gap expected at the chronological "
    "age, after Beheshti et al. 2019, de Lange and Cole 2020. Its accuracy must not be quoted",
    "corrected_gap_beheshti": "years; corrected_age_beheshti minus chronological_age",
}

# regions.tsv of `ermoe-ba maps`, one row an expert and region of a cohort.
COHORT_REGION_COLUMNS: dict[str, str] = {
    "expert": "expert of the read-out layer",
    "kind": "regional: serves its region by construction; free: may serve any",
    "index": "value in the atlas image; 0 for voxels without a label",
    "region": "name of the region",
    "hemisphere": "L, R or n/a",
    "volume_ml": "millilitres of the region inside the template's brain",
    "mean_weight": "mean routing weight of the expert in the region, 0 to 1",
    "weight_sd": "standard deviation of the region's mean weight between participants",
    "load_share": "share of the expert's load in the brain that falls into the region, 0 to 1",
    "enrichment_log2": "log2 of mean_weight over the expert's mean weight in the whole brain, the "
    "load of experts.tsv",
    "enrichment_p": "chance of such a departure in equally smooth maps, two-sided, uncorrected",
    "enrichment_q": "the same, corrected over all p values of the table (false discovery rate)",
    "member_agreement": "share of the model's members that agree with the majority on whether the "
    "expert is enriched or depleted there, 0.5 to 1",
    "contribution_years": "years that the expert adds in the region, relative to the baseline",
    "contribution_sd": "standard deviation of contribution_years between participants",
    "contribution_p": "chance of such years in equally smooth maps, two-sided, uncorrected; n/a of "
    "a run out of fold, whose mean years are 0 by construction",
    "contribution_q": "the same, corrected over all p values of the table (false discovery rate)",
    "contribution_on_age": "years that the expert adds in the region with each year of "
    "chronological age; over all rows, the slope of predicted_age on age",
    "on_age_p": "chance of such a slope in equally smooth maps, two-sided, uncorrected",
    "on_age_q": "the same, corrected over all p values of the table (false discovery rate)",
}

# experts.tsv of `ermoe-ba maps`, one row an expert.
EXPERT_COLUMNS: dict[str, str] = {
    "expert": "expert of the read-out layer",
    "kind": "regional: serves its region by construction; free: may serve any",
    "load": "mean routing weight over the voxels of the template's brain and over participants, 0 "
    "to 1",
    "load_sd": "standard deviation of the load between participants",
    "contribution_years": "years that the expert adds, mean over participants; about 0 in a cohort "
    "like the one that the model was trained on",
    "contribution_sd": "standard deviation of these years between participants",
    "contribution_on_age": "years that the expert adds with each year of chronological age",
    "weight_r_seeds": "correlation over tokens of mean routing weights, mean over pairs of members "
    "with one stem: seeds of one fold",
    "contribution_r_seeds": "the same of mean years",
    "winner_dice_seeds": "Dice of the tokens where the expert weighs most, same pairs",
    "weight_r_folds": "as weight_r_seeds, over pairs of different stems: folds, or beginnings",
    "contribution_r_folds": "the same of mean years",
    "winner_dice_folds": "Dice of the tokens where the expert weighs most, same pairs",
    "weight_r_halves": "correlation over tokens between the mean weights of two random halves of "
    "the participants, median over draws",
    "contribution_r_halves": "the same of mean years",
    "on_age_r_seeds": "correlation over tokens of the slopes of years on age, mean over pairs of "
    "members with one stem",
    "on_age_r_folds": "the same over pairs of members with different stems",
    "on_age_r_halves": "the same between random halves of the participants, median over draws",
    "mae_without": "mean absolute error of the model without the expert, out of fold on its "
    "training cohort, in years; n/a where its card is not known or does not say",
    "mae_lost": "mae_without minus the error with all experts, in years: where it is not above 0, "
    "the model owes nothing to the expert",
}

# effects.tsv of `ermoe-ba maps`, one row an effect and map.
EFFECT_COLUMNS: dict[str, str] = {
    "effect": "age, gap, or group-<value>",
    "map": "contribution (years of all experts together), or an expert's routing weight",
    "participants": "how many the effect rests on",
    "years": "what a unit of the effect adds to the predicted age: a year of age, a year of gap (1 "
    "by definition), or the group; n/a for routing weights",
    "tokens_up": "tokens where the map grows with the effect, corrected p below 0.05",
    "tokens_down": "tokens where it shrinks, corrected p below 0.05",
    "peak_t": "t where it is farthest from 0",
    "peak_p": "corrected p there, family-wise over all tokens and maps of the effect",
    "peak_x_mm": "centre of that token, RAS+, template space",
    "peak_y_mm": "the same",
    "peak_z_mm": "the same",
    "peak_region": "region of the atlas that fills most of that token's brain",
    "peak_hemisphere": "L, R or n/a",
}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as BIDS-like TSV (``n/a`` where there is no value), whole or not at all.

    Parameters
    ----------
    path : Path
        Where to; its folder is made if need be.
    table : DataFrame
        Its index is not written.
    """
    write_text(path, table.to_csv(sep="\t", index=False, na_rep="n/a"))


def read_tsv(
    path: Path, *, text: Sequence[str] | None = None, gaps: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table whose names stay as they are written, be they 007, 1e5 or NA.

    Parameters
    ----------
    path : Path
        Tab-separated, with a header.
    text : sequence of str, optional
        Columns of names, as far as they are there; the others are what pandas takes them for. By
        default all cells are text.
    gaps : sequence of str
        Cells that hold no value (NaN); by default ``n/a`` and empty cells are kept as text too.

    Returns
    -------
    DataFrame
        Names that a row shorter than the header lacks are empty.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, two columns bear one name, of which readers would see the first
        alone, or its rows have more cells than the header, which pandas would put below their
        neighbours' names.
    """
    _refuse_twins(path)
    kinds = str if text is None else dict.fromkeys(text, str)
    table = pd.read_csv(path, sep="\t", dtype=kinds, keep_default_na=False)
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("each row must have as many cells as the header; found more")
    names = table.columns if text is None else table.columns.intersection(list(text))
    # What a short row lacks is a gap in spite of `keep_default_na`, but not in every pandas.
    table[names] = table[names].fillna("")
    return table.mask(table.isin(list(gaps))) if gaps else table


def _refuse_twins(path: Path) -> None:
    """Refuse a header with one name twice: pandas would call the second by another name."""
    header = pd.read_csv(path, sep="\t", header=None, nrows=1, dtype=str, keep_default_na=False)
    names = header.iloc[0]
    # Columns without a name are nobody's.
    twins = names[names.duplicated(keep=False) & (names != "")]
    if len(twins):
        places = [str(number + 1) for number in twins.index[twins == twins.iloc[0]]]
        raise ValueError(
            f"each column must have a name of its own; found {twins.iloc[0]!r} as columns "
            f"{', '.join(places[:-1])} and {places[-1]}. Which one counts would be a guess: rename "
            "or remove one"
        )


def markdown_table(table: pd.DataFrame, decimals: int) -> str:
    """Return a table as markdown, fractions rounded to so many decimals.

    Parameters
    ----------
    table : DataFrame
        Its index is left out.
    decimals : int
        At least 0; whole numbers and text stay as they are.

    Returns
    -------
    str
        With a line break at the end.
    """
    rows = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    rows += [
        [f"{cell:.{decimals}f}" if isinstance(cell, float) else str(cell) for cell in record]
        for record in table.itertuples(index=False)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a ``predictions.tsv`` as it stands, all cells text, so that writing changes no digit.

    Columns that earlier versions did not write are ``n/a``.

    Parameters
    ----------
    path : Path
        As `write_table` wrote it, of this or an earlier version.

    Returns
    -------
    DataFrame
        The columns `PREDICTION_COLUMNS` in their order, one row a scan.

    Raises
    ------
    UsageError
        If the file cannot be read or has other columns.
    """
    try:
        table = read_tsv(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the table cannot be read ({error}).") from error
    for name in LATER_COLUMNS:
        if name not in table.columns:
            table.insert(min(list(PREDICTION_COLUMNS).index(name), table.shape[1]), name, "n/a")
    if list(table.columns) != list(PREDICTION_COLUMNS):
        raise UsageError(
            f"{path}: must have the columns of a table of predictions of this version; found "
            f"{', '.join(table.columns)}."
        )
    return table


def predictions_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table with the columns of ``predictions.tsv`` in their order.

    Parameters
    ----------
    rows : list of dict
        By column; columns that a row lacks are gaps.

    Returns
    -------
    DataFrame
        The columns `PREDICTION_COLUMNS`, one row each.

    Raises
    ------
    ValueError
        If a row has a column that the table does not know.
    """
    unknown = {name for row in rows for name in row} - set(PREDICTION_COLUMNS)
    if unknown:
        raise ValueError(f"Unknown columns {sorted(unknown)}.")
    return pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
