"""Who is in a cohort of maps: each participant's scans, ages and columns of the table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.cohort import Participants, chronological_age, one_age_remark
from ermoe_ba.errors import printable
from ermoe_ba.naming import ScanName
from ermoe_ba.study import MAX_NAMED

# What the cohort itself says of a participant: no column of a participants table may stand there.
OWN_COLUMNS = ("participant_id", "scans", "predicted_age", "chronological_age", "brain_age_gap")


@dataclass(frozen=True)
class People:
    """The participants of a cohort.

    Parameters
    ----------
    table : DataFrame
        One row a participant, in the order of their first scans: `OWN_COLUMNS` (ages and gap in
        years, means over the scans; NaN where the age is not known of all of them), then the other
        columns of the participants table, NaN for whoever is missing from it.
    remarks : tuple of str
        What the user must be told of ages and columns; empty where there is nothing to tell.
    """

    table: pd.DataFrame
    remarks: tuple[str, ...]


def gather_people(
    scans: Sequence[ScanName], predicted_ages: Sequence[float], participants: Participants | None
) -> People:
    """Return what is known of each participant.

    Ages follow the rule of `ermoe_ba.cohort.chronological_age`: an age at the scan's own session
    counts before the participants table, and the table before all else.

    Parameters
    ----------
    scans : sequence of ScanName
        All of the cohort, at least one.
    predicted_ages : sequence of float
        Years, of each scan.
    participants : Participants or None
        The table that was given, if any.

    Returns
    -------
    People
        Every participant once.
    """
    scans = _with_other_sessions(scans, one_each=participants is not None)
    ages = [chronological_age(scan, participants) for scan in scans]
    by_scan = pd.DataFrame(
        {
            "participant_id": [scan.participant_id for scan in scans],
            "predicted_age": np.asarray(predicted_ages, dtype=float),
            "chronological_age": np.array(ages, dtype=float),
        }
    )
    by_name = by_scan.groupby("participant_id", sort=False)
    table = pd.DataFrame(
        {
            "scans": by_name.size(),
            "predicted_age": by_name["predicted_age"].mean(),
            # A participant's age at one scan alone says nothing of the mean over all.
            "chronological_age": by_name["chronological_age"].agg(_mean_of_all),
        }
    )
    table["brain_age_gap"] = table["predicted_age"] - table["chronological_age"]
    remarks = [one_age_remark(scans, participants)]
    if participants is not None:
        known = participants.table.drop(columns="age")
        colliding = [str(name) for name in known.columns if name in OWN_COLUMNS]
        missing = [name for name in table.index if name not in known.index]
        table = table.join(known.drop(columns=colliding))
        remarks += [_colliding_remark(colliding), _missing_remark(missing)]
    return People(table.reset_index(), tuple(filter(None, remarks)))


def _mean_of_all(ages: "pd.Series[Any]") -> float:
    return float(ages.mean(skipna=False))


def _with_other_sessions(scans: Sequence[ScanName], *, one_each: bool) -> list[ScanName]:
    """Mark the scans of whoever was scanned at several sessions with one age for them.

    With a participants table each has one. Without one, a prediction does not say where its age
    came from: ages that are not of a session were one person's if they are equal.
    """
    sessions: dict[str, set[str | None]] = {}
    given: dict[str, set[float | None]] = {}
    for scan in scans:
        sessions.setdefault(scan.participant_id, set()).add(scan.session_id)
        if not scan.age_at_session:
            given.setdefault(scan.participant_id, set()).add(scan.chronological_age)

    def one_age(who: str) -> bool:
        return len(sessions[who]) > 1 and (one_each or len(given.get(who, ())) == 1)

    return [replace(scan, other_sessions=one_age(scan.participant_id)) for scan in scans]


def _colliding_remark(columns: list[str]) -> str:
    if not columns:
        return ""
    return (
        f"--participants: no column may have a name of the results' own; found "
        f"{printable(', '.join(columns))}, which were left out. Rename them in the table to keep "
        "them."
    )


def _missing_remark(names: list[str]) -> str:
    if not names:
        return ""
    named = printable(", ".join(names[:MAX_NAMED])) + (", ..." if len(names) > MAX_NAMED else "")
    return (
        f"--participants must have a row of every participant for their age and group to be known; "
        f"found none of {len(names)} ({named}): they count in the means, and in no comparison that "
        "needs what the table does not tell of them."
    )
