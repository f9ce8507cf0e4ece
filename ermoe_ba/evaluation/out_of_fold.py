"""The rows under evaluation: whose, from which fold, how old, and how old they look."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from ermoe_ba.cohort import MAX_AGE, UNKNOWN_AGES, Participants
from ermoe_ba.errors import UsageError, printable
from ermoe_ba.given_tables import read_given
from ermoe_ba.space import Array

# Columns of participants.tsv that part a cohort, as BIDS names them.
GROUPS = ("sex", "site")
# A line through ages needs two, and a line whose error is to be known one more.
MIN_PARTICIPANTS = 3
# Folds for calibration where the table has none: as many as the recipes' cross-validation.
NUM_MADE_FOLDS = 5
_UNKNOWN = ("", "n/a")


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfFold:
    """Predictions of scans by models that had not seen their participants; N rows.

    Parameters
    ----------
    source : DataFrame
        The table as read, all cells text, with all its rows.
    used : ndarray of bool, shape (M,)
        Which of its M rows are evaluated: N of them.
    left_out : dict of str to int
        Why rows are not evaluated, and how many.
    participants : ndarray of str, shape (N,)
        ``participant_id`` without ``sub-``.
    folds : ndarray of int, shape (N,)
        Places in `fold_names`; no participant stands in two.
    fold_names : tuple of str
        What the table calls its folds.
    folds_given : bool
        Whether the table had them. Otherwise they were made, and only part the participants that
        something is fitted on from those that it is measured on.
    chronological, predicted : ndarray, shape (N,)
        Ages in years.
    groups : dict of str to ndarray of str, shape (N,)
        ``sex`` and ``site`` where the participants table has them; ``n/a`` where unknown.
    given_interval : ndarray, shape (2, N), or None
        Ends of the intervals that came with the predictions, in years; None unless all rows have
        one.
    """

    source: pd.DataFrame
    used: Array
    left_out: dict[str, int]
    participants: Array
    folds: Array
    fold_names: tuple[str, ...]
    folds_given: bool
    chronological: Array
    predicted: Array
    groups: dict[str, Array]
    given_interval: Array | None

    @property
    def gap(self) -> Array:
        """Predicted minus chronological age in years, shape (N,)."""
        return self.predicted - self.chronological

    @property
    def decades(self) -> Array:
        """First year of each row's decade of chronological age, shape (N,)."""
        return (self.chronological // 10 * 10).astype(int)

    @property
    def num_participants(self) -> int:
        """Number of participants; at most N."""
        return len(np.unique(self.participants))

    def by_person(self) -> list[Array]:
        """Return the places of each participant's rows, in order of age; P arrays.

        Returns
        -------
        list of ndarray of int
            Each of shape (scans of that participant,), numbers of rows from 0.
        """
        order = np.argsort(self.chronological, kind="stable")
        found = pd.Series(order).groupby(self.participants[order]).indices
        return [order[places] for places in found.values()]


def read_out_of_fold(path: Path, participants: Participants | None = None) -> OutOfFold:
    """Read predictions that are to be evaluated.

    Parameters
    ----------
    path : Path
        A table, tab-separated or Parquet, with the columns ``participant_id``,
        ``chronological_age`` and ``predicted_age`` (years), as `cross-validate` and `predict`
        write it; ``fold`` where it comes from folds. Rows without either age, or whose ``status``
        is not ``ok``, are left out.
    participants : Participants, optional
        Gives sex and site where it has such columns; must know somebody of the table.

    Returns
    -------
    OutOfFold

    Raises
    ------
    UsageError
        If the file cannot be read, lacks a column, holds an age that is none, an interval that ends
        before it begins or a scan twice, puts a participant in two folds, or holds fewer than three
        participants or one age only; or if `participants` knows nobody of it.
    """
    source = _read_text(path)
    left_out: dict[str, int] = {}
    used = np.ones(len(source), dtype=bool)
    status = source.get("status", pd.Series("ok", index=source.index)).to_numpy(dtype=str)
    ages = {name: _ages(path, source, name) for name in ("chronological_age", "predicted_age")}
    for reason, wanting in (
        ("status is not ok", status != "ok"),
        ("no chronological_age", np.isnan(ages["chronological_age"])),
        ("no predicted_age", np.isnan(ages["predicted_age"])),
    ):
        if (used & wanting).any():
            left_out[reason] = int((used & wanting).sum())
        used &= ~wanting
    rows = source[used]
    # Spreadsheets leave spaces, which would make two people of one.
    names = rows["participant_id"].str.strip().str.removeprefix("sub-").to_numpy(dtype=str)
    if np.isin(names, _UNKNOWN).any():
        raise UsageError(f"{path}: each row must have a participant_id; found one without.")
    chronological, predicted = (ages[name][used] for name in ("chronological_age", "predicted_age"))
    if len(np.unique(names)) < MIN_PARTICIPANTS or len(np.unique(chronological)) < 2:
        raise UsageError(
            f"{path}: an evaluation needs at least {MIN_PARTICIPANTS} participants, of different "
            f"ages, with predicted and chronological age; found {len(np.unique(names))} "
            f"participants and {len(np.unique(chronological))} ages in {len(rows)} usable rows "
            f"of {len(source)}."
        )
    _check_scans(path, rows.assign(participant_id=names))
    given = rows["fold"].to_numpy(dtype=str) if "fold" in rows else np.zeros(len(rows), dtype=str)
    folds_given = len(np.unique(given)) > 1
    if folds_given:
        _check_folds(path, names, given)
    fold_names, folds = np.unique(given if folds_given else _made_folds(names), return_inverse=True)
    return OutOfFold(
        source=source,
        used=used,
        left_out=left_out,
        participants=names,
        folds=folds,
        fold_names=tuple(str(name) for name in fold_names),
        folds_given=folds_given,
        chronological=chronological,
        predicted=predicted,
        groups=_groups(names, participants),
        given_interval=_given_interval(path, source, used),
    )


def _read_text(path: Path) -> pd.DataFrame:
    table = read_given(path, "the predictions")
    missing = {"participant_id", "chronological_age", "predicted_age"} - set(table.columns)
    if missing:
        raise UsageError(
            f"{path}: a table of predictions must have the columns participant_id, "
            f"chronological_age and predicted_age (tab-separated); missing: "
            f"{', '.join(sorted(missing))}. `predict` adds chronological ages with --participants. "
            f"Its header holds {printable(', '.join(map(repr, table.columns)))}."
        )
    return table


def _ages(path: Path, source: pd.DataFrame, column: str) -> Array:
    """Return a column in years, not a number where unknown."""
    known = ~source[column].isin(UNKNOWN_AGES)
    years = pd.to_numeric(source[column].where(known), errors="coerce").to_numpy(dtype=float)
    # A model may answer below 0 or beyond any age; a chronological age may not.
    low, high = (0, MAX_AGE) if column == "chronological_age" else (-np.inf, np.inf)
    wrong = known.to_numpy() & ~(np.isfinite(years) & (years >= low) & (years <= high))
    if wrong.any():
        row = source[wrong].iloc[0]
        holds = f"from 0 to {MAX_AGE}" if np.isfinite(high) else "that is finite"
        raise UsageError(
            f"{path}: {column} must be a number of years {holds}, or n/a; found "
            f"{row[column]!r} for {row['participant_id']}."
            + (" Write decimals after a point, as 38.5." if "," in row[column] else "")
        )
    return years


def _check_scans(path: Path, rows: pd.DataFrame) -> None:
    """Refuse a scan that stands twice: it would agree with itself as if it had been repeated."""
    # What `cross-validate` calls a scan, and `predict`; whoever names scans by sequence names the
    # session or the age as well.
    if not {"scan", "input"} & set(rows.columns):
        return
    keys = ("participant_id", "session_id", "scan", "input", "chronological_age")
    twice = rows[rows.duplicated([key for key in keys if key in rows.columns])]
    if len(twice):
        row = twice.iloc[0]
        raise UsageError(
            f"{path}: each scan must stand once; found {row.get('scan', row.get('input'))!r} of "
            f"{row['participant_id']} more than once. Keep one row a scan; of several models or "
            "repeats, evaluate one at a time."
        )


def _check_folds(path: Path, names: Array, given: Array) -> None:
    without = names[np.isin(given, _UNKNOWN)]
    if len(without):
        raise UsageError(f"{path}: all rows must have a fold, or none; found {without[0]} without.")
    pairs = pd.DataFrame({"name": names, "fold": given}).drop_duplicates()
    twice = pairs["name"][pairs["name"].duplicated()]
    if len(twice):
        found = sorted(pairs["fold"][pairs["name"] == twice.iloc[0]])
        raise UsageError(
            f"{path}: a participant must stand in one fold only, or the other fold's model has "
            f"seen that brain; found {twice.iloc[0]} in folds {', '.join(found)}. Of repeated "
            "cross-validations, evaluate one at a time."
        )


def _made_folds(names: Array) -> Array:
    """Part the participants by a fixed seed; all rows of one stay together."""
    folds = np.zeros(len(names), dtype=int)
    num_folds = min(NUM_MADE_FOLDS, len(np.unique(names)))
    splitter = GroupKFold(num_folds, shuffle=True, random_state=0)
    for fold, (_, test) in enumerate(splitter.split(names, groups=names)):
        folds[test] = fold
    return folds


def _given_interval(path: Path, source: pd.DataFrame, used: Array) -> Array | None:
    ends = ("predicted_age_lower", "predicted_age_upper")
    if not set(ends) <= set(source.columns):
        return None
    interval = np.stack([_ages(path, source, name)[used] for name in ends])
    crossed = np.flatnonzero(interval[0] > interval[1])
    if len(crossed):
        row = source[used].iloc[crossed[0]]
        raise UsageError(
            f"{path}: {ends[0]} must not lie above {ends[1]}; found {row[ends[0]]} and "
            f"{row[ends[1]]} for {row['participant_id']}. Exchange the columns, or leave both out."
        )
    return interval if np.isfinite(interval).all() else None


def _groups(names: Array, participants: Participants | None) -> dict[str, Array]:
    if participants is None:
        return {}
    if not participants.table.index.isin(names).any():
        raise UsageError(
            "--participants must hold the people of the predictions; found none of them. In the "
            f"predictions stand {printable(', '.join(np.unique(names)[:3]))}, in the table "
            f"{printable(', '.join(map(str, participants.table.index[:3])))}."
        )
    return {
        name: participants.table[name].reindex(names).fillna("n/a").to_numpy(dtype=str)
        for name in GROUPS
        if name in participants.table
    }
