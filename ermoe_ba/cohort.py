"""Who is in a study: the participants table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ermoe_ba.errors import UsageError, printable
from ermoe_ba.given_tables import read_given
from ermoe_ba.naming import ScanName

# Years. Nobody was older than 122; a value beyond is a birth year or a date.
MAX_AGE = 123
# How tables write an age that is not known; BIDS lets data sets hide high ages as 89+, which is no
# number of years to compare with.
UNKNOWN_AGES = ("n/a", "", "89+")


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

        Parameters
        ----------
        participant_id : str
            Without ``sub-``.

        Returns
        -------
        float or None
            From 0 to `MAX_AGE`.

        Raises
        ------
        KeyError
            If the participant is not in the table.
        """
        age = float(self.table["age"].loc[participant_id])
        return None if np.isnan(age) else age


def chronological_age(scan: ScanName, participants: Participants | None) -> float | None:
    """Return the age of a scan's participant in years, or None where it is not known.

    An age at the scan's own session counts before any table of participants; where there is such a
    table, it counts before what else came with the scan, and whoever is missing from it has no age.

    Parameters
    ----------
    scan : ScanName
        The scan.
    participants : Participants or None
        The table that was given, if any.

    Returns
    -------
    float or None
        From 0 to `MAX_AGE`.
    """
    if participants is None or scan.age_at_session:
        return scan.chronological_age
    known = scan.participant_id in participants.table.index
    return participants.age_of(scan.participant_id) if known else None


def one_age_remark(scans: Sequence[ScanName], participants: Participants | None) -> str:
    """Return what must be said of sessions that take the one age known of their participant.

    Whoever is scanned years apart has one of these ages only.

    Parameters
    ----------
    scans : sequence of ScanName
        All of a run.
    participants : Participants or None
        The table that was given, if any.

    Returns
    -------
    str
        How many participants, what is assumed of them and what to provide; empty where each session
        has its own age, or none is known.
    """
    lacking: dict[str, set[str]] = {}
    # Those with sessions that this run need not have been asked for.
    elsewhere = {scan.participant_id for scan in scans if scan.other_sessions}
    for scan in scans:
        known = chronological_age(scan, participants) is not None and not scan.age_at_session
        if known and scan.session_id is not None:
            lacking.setdefault(scan.participant_id, set()).add(scan.session_id)
    # Without a table of participants, files outside a data set come with an age each.
    several = 2 if participants is not None else np.inf
    affected = [who for who, own in lacking.items() if who in elsewhere or len(own) >= several]
    if not affected:
        return ""
    return (
        f"{len(affected)} participants have several sessions but one age "
        f"({printable(affected[0])}{', ...' if len(affected) > 1 else ''}): it is assumed at every "
        "session that has none of its own, so that age and gap are wrong by the time between "
        "them. State the age at each session in the data set's sub-<participant>_sessions.tsv "
        "(columns session_id and age)."
    )


def read_participants(path: Path) -> Participants:
    """Read ``participants.tsv``.

    Parameters
    ----------
    path : Path
        A tab-separated file with the columns ``participant_id`` and ``age``; ``n/a`` (or BIDS's
        ``89+``) for unknown.

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
    table = read_given(path, "the participants table")
    # With spaces around them no scan is found, and one site is two.
    table = table.apply(lambda column: column.str.strip())
    table = table.mask(table.isin(UNKNOWN_AGES))
    missing = {"participant_id", "age"} - set(table.columns)
    if missing:
        raise UsageError(
            f"{path}: the participants table must have the columns participant_id and age "
            f"(tab-separated); missing: {', '.join(sorted(missing))}. Its header holds "
            f"{printable(', '.join(map(repr, table.columns)))}."
        )
    names = table["participant_id"].fillna("")
    table["participant_id"] = names.str.removeprefix("sub-")
    if (table["participant_id"] == "").any():
        raise UsageError(f"{path}: each row must have a participant_id; found one without.")
    twice = table["participant_id"][table["participant_id"].duplicated()].tolist()
    if twice:
        raise UsageError(
            f"{path}: each participant_id must stand once; {twice[0]!r} stands more than once. "
            "Keep one row a participant; in a BIDS data set, ages at several sessions stand in "
            "sub-<participant>_sessions.tsv."
        )
    ages = pd.to_numeric(table["age"], errors="coerce")
    wrong = table["age"].notna() & ~ages.between(0, MAX_AGE)
    if wrong.any():
        row = table[wrong].iloc[0]
        raise UsageError(
            f"{path}: an age must be a number of years from 0 to {MAX_AGE}, its decimals after a "
            f"point (38.5), or n/a; found "
            f"{row['age']!r} for {row['participant_id']}."
        )
    return Participants(table.assign(age=ages).set_index("participant_id"))
