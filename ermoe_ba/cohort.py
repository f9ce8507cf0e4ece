"""Who is in a study: the participants table, and the split of participants into folds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from ermoe_ba.errors import UsageError


@dataclass(frozen=True)
class Participants:
    """A BIDS participants table with one row a participant.

    Parameters
    ----------
    table : DataFrame
        Index ``participant_id`` without ``sub-``; column ``age`` in years, NaN where unknown.
    """

    table: pd.DataFrame

    @property
    def labelled(self) -> "Participants":
        """Those whose age is known."""
        return Participants(self.table[self.table["age"].notna()])

    def age_of(self, participant_id: str) -> float | None:
        """Return a participant's age in years, or None where it is not known.

        Raises
        ------
        KeyError
            If the participant is not in the table.
        """
        age = float(self.table["age"].loc[participant_id])
        return None if np.isnan(age) else age


def read_participants(path: Path) -> Participants:
    """Read ``participants.tsv``.

    Parameters
    ----------
    path : Path
        A tab-separated file with the columns ``participant_id`` and ``age``; ``n/a`` for unknown.

    Returns
    -------
    Participants
        In the file's order.

    Raises
    ------
    UsageError
        If the file cannot be read, lacks a column, names a participant twice, or holds an age that
        is no age.
    """
    try:
        # Text as it stands: pandas would take a participant called NA for a gap.
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, na_values=["n/a", ""])
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the participants table cannot be read ({error}).") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise UsageError(f"{path}: each row must have as many cells as the header; found more.")
    missing = {"participant_id", "age"} - set(table.columns)
    if missing:
        raise UsageError(
            f"{path}: the participants table must have the columns participant_id and age "
            f"(tab-separated); missing: {', '.join(sorted(missing))}."
        )
    table["participant_id"] = table["participant_id"].fillna("").str.removeprefix("sub-")
    if (table["participant_id"] == "").any():
        raise UsageError(f"{path}: each row must have a participant_id; found one without.")
    twice = table["participant_id"][table["participant_id"].duplicated()].tolist()
    if twice:
        raise UsageError(
            f"{path}: each participant_id must stand once; {twice[0]!r} stands more than once. "
            "Keep one row a participant."
        )
    ages = pd.to_numeric(table["age"], errors="coerce")
    # Nobody was older than 122; a value beyond is a birth year or a date.
    wrong = table["age"].notna() & ~ages.between(0, 123)
    if wrong.any():
        row = table[wrong].iloc[0]
        raise UsageError(
            f"{path}: an age must be a number of years from 0 to 123, or n/a; found "
            f"{row['age']!r} for {row['participant_id']}."
        )
    return Participants(table.assign(age=ages).set_index("participant_id"))


def split_folds(participants: Participants, num_folds: int, seed: int) -> pd.Series:
    """Assign each participant to one fold, balanced in age.

    Parameters
    ----------
    participants : Participants
        With known ages.
    num_folds : int
        At least 2.
    seed : int
        Of the shuffle.

    Returns
    -------
    Series
        Fold 0 to `num_folds` - 1 by participant_id, named ``fold``.
    """
    ages = participants.table["age"]
    # As many age bins as keep at least one participant per fold in each.
    # Of ranks, not of ages: edges between many people of one age would coincide.
    bins = pd.qcut(ages.rank(method="first"), max(1, min(10, len(ages) // num_folds)), labels=False)
    splitter = StratifiedKFold(n_splits=num_folds, shuffle=True, random_state=seed)
    folds = np.zeros(len(ages), dtype=int)
    for fold, (_, test) in enumerate(splitter.split(ages, bins)):
        folds[test] = fold
    return pd.Series(folds, index=ages.index, name="fold")
