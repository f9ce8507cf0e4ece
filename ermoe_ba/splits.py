"""Who is tested in which fold: data, made once and written as ``splits.tsv``."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from ermoe_ba.cohort import Participants
from ermoe_ba.errors import UsageError
from ermoe_ba.given_tables import read_given

# How folds are made: balanced in age and site, or one for each site.
STRATIFIED, SITES = "stratified", "leave-site-out"
SPLITS = (STRATIFIED, SITES)


def make_splits(
    participants: Participants, split: str, num_folds: int, num_repeats: int, seed: int
) -> pd.DataFrame:
    """Assign each participant to one fold in each repeat.

    Parameters
    ----------
    participants : Participants
        With known ages.
    split : {"stratified", "leave-site-out"}
        How.
    num_folds, num_repeats : int
        Folds of each repeat, and repeats; each repeat has a shuffle of its own.
    seed : int
        Of the first shuffle.

    Returns
    -------
    DataFrame
        Index participant_id; a column for each repeat as `fold_column` names it.

    Raises
    ------
    UsageError
        If there are too few participants, or not as many sites as folds.
    """
    if split == SITES:
        return split_sites(participants, num_folds).to_frame()
    columns = {
        fold_column(repeat): split_folds(participants, num_folds, seed + repeat)
        for repeat in range(num_repeats)
    }
    return pd.DataFrame(columns)


def fold_column(repeat: int) -> str:
    """Return the column of ``splits.tsv`` that holds a repeat's folds.

    Parameters
    ----------
    repeat : int
        Number of the repeat, from 0.

    Returns
    -------
    str
        ``fold``, or ``fold_repeat_1`` and so on.
    """
    return "fold" if repeat == 0 else f"fold_repeat_{repeat}"


def split_folds(participants: Participants, num_folds: int, seed: int) -> pd.Series:
    """Assign each participant to one fold, balanced in age and, where it is known, in site.

    Parameters
    ----------
    participants : Participants
        With known ages; a column ``site``, where there is one, is heeded.
    num_folds : int
        At least 2.
    seed : int
        Of the shuffle.

    Returns
    -------
    Series
        Fold 0 to `num_folds` - 1 by participant_id, named ``fold``.

    Raises
    ------
    UsageError
        If there are fewer participants than folds.
    """
    table = participants.table
    if len(table) < num_folds:
        raise UsageError(f"{num_folds} folds need as many participants; found {len(table)}.")
    site = _sites(table, num_folds)
    strata = pd.Series("", index=table.index)
    for name, ages in table["age"].groupby(site):
        # As many age bins as keep at least one participant per fold in each. Of ranks, not of
        # ages: edges between many people of one age would coincide.
        count = max(1, min(10, len(ages) // num_folds))
        bins = pd.qcut(ages.rank(method="first"), count, labels=False)
        strata[ages.index] = np.array([f"{name} {number}" for number in bins])
    splitter = StratifiedKFold(n_splits=num_folds, shuffle=True, random_state=seed)
    folds = np.zeros(len(table), dtype=int)
    with warnings.catch_warnings():
        # The sites too small for every fold may together be so as well: they go where they can.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for fold, (_, test) in enumerate(splitter.split(strata, strata)):
            folds[test] = fold
    return pd.Series(folds, index=table.index, name=fold_column(0))


def _sites(table: pd.DataFrame, num_folds: int) -> pd.Series:
    """Return the site of each participant, those with fewer people than folds under one name."""
    if "site" not in table.columns:
        return pd.Series("", index=table.index)
    site = table["site"].fillna("").astype(str)
    large = site.map(site.value_counts()) >= num_folds
    return site.where(large, "small sites")


def split_sites(participants: Participants, num_folds: int) -> pd.Series:
    """Give each site a fold of its own.

    Parameters
    ----------
    participants : Participants
        With a column ``site``.
    num_folds : int
        The number of sites, as the recipe states it.

    Returns
    -------
    Series
        Fold by participant_id, named ``fold``; folds follow the sites' names.

    Raises
    ------
    UsageError
        If a site is unknown, or there are more or fewer sites than folds.
    """
    table = participants.table
    unknown = table.index[table["site"].isna()] if "site" in table.columns else table.index
    if len(unknown):
        raise UsageError(
            f"Leaving one site out needs a column site of the participants table with a site for "
            f"everybody; found none for {len(unknown)} (first: {unknown[0]})."
        )
    names = sorted(table["site"].astype(str).unique())
    if len(names) != num_folds:
        raise UsageError(
            f"Leaving one site out needs num_folds = {len(names)} in the recipe, one for each of "
            f"{', '.join(names)}; found {num_folds}."
        )
    folds = table["site"].astype(str).map(names.index)
    return folds.rename(fold_column(0))


def read_splits(
    path: Path, participants: Participants, num_folds: int, num_repeats: int
) -> pd.DataFrame:
    """Read ``splits.tsv``, of an earlier start or given by the user.

    Parameters
    ----------
    path : Path
        A table with the columns participant_id and ``fold``, and one more a repeat.
    participants : Participants
        Who takes part.
    num_folds, num_repeats : int
        As the recipe states them.

    Returns
    -------
    DataFrame
        As from `make_splits`.

    Raises
    ------
    UsageError
        If somebody is missing, unknown, or stands in it twice, or a fold is empty or unknown.
    """
    table = read_given(path, "the table of folds")
    columns = [fold_column(repeat) for repeat in range(num_repeats)]
    missing = {"participant_id", *columns} - set(table.columns)
    if missing:
        raise UsageError(f"{path}: must have the columns {', '.join(sorted(missing))}.")
    ids = table["participant_id"].str.removeprefix("sub-")
    twice = ids[ids.duplicated()].tolist()
    if twice:
        raise UsageError(
            f"{path}: a participant must stand in one fold; {twice[0]} has several rows."
        )
    for who, those in (
        ("have no fold", set(participants.table.index) - set(ids)),
        ("take no part", set(ids) - set(participants.table.index)),
    ):
        if those:
            raise UsageError(
                f"{path}: must give each participant with an age one fold; {len(those)} of them "
                f"{who}: {', '.join(sorted(those)[:5])}."
            )
    folds = table.set_index(ids)[columns]
    wanted = {str(fold) for fold in range(num_folds)}
    for column in columns:
        found = set(folds[column])
        if found != wanted:
            raise UsageError(
                f"{path}: {column} must hold the folds 0 to {num_folds - 1}, as num_folds of the "
                f"recipe says; found {', '.join(sorted(found))}."
            )
    return folds.astype(int)
