"""Who is in a cohort of maps: each participant's scans, ages and columns of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.cohort import Participants, chronological_age, one_age_remark
from ermoe_ba.errors import printable
from ermoe_ba.intervals import age_interval
from ermoe_ba.naming import ScanName
from ermoe_ba.study import MAX_NAMED

# What the cohort itself says of a participant: no column of a participants table may stand there.
OWN_COLUMNS = (
    *("participant_id", "scans"),
    *("predicted_age", "predicted_age_lower", "predicted_age_upper"),
    *("chronological_age", "brain_age_gap", "qc_flags", "seen_in_training"),
)
# Of `seen_in_training` over several scans, the first of these that is true of any counts.
_SEEN = ("yes", "name", "no")


@dataclass(frozen=True)
class People:
    """The participants of a cohort.

    Parameters
    ----------
    table : DataFrame
        One row a participant, in the order of their first scans: `OWN_COLUMNS` (ages, ends of the
        prediction interval and gap in years, means over the scans; NaN where one is not known of
        all of them; flags of any scan), then the other columns of the participants table, NaN for
        whoever is missing from it.
    remarks : tuple of str
        What the user must be told of ages and columns; empty where there is nothing to tell.
    """

    table: pd.DataFrame
    remarks: tuple[str, ...]


def gather_people(
    scans: Sequence[ScanName],
    predicted_ages: Sequence[float],
    participants: Participants | None,
    results: Sequence[Mapping[str, Any]] = (),
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
    results : sequence of mapping
        What is known of each scan besides, as in ``predictions.tsv``: ends of its interval, flags,
        whether the model had seen it. By default, nothing is.

    Returns
    -------
    People
        Every participant once.
    """
    scans = _with_other_sessions(scans, one_each=participants is not None)
    ages = [chronological_age(scan, participants) for scan in scans]
    told = results or [{}] * len(scans)
    lower, upper = (
        np.array([result.get(f"predicted_age_{end}") for result in told], dtype=float)
        for end in ("lower", "upper")
    )
    by_scan = pd.DataFrame(
        {
            "participant_id": [scan.participant_id for scan in scans],
            "predicted_age": np.asarray(predicted_ages, dtype=float),
            "predicted_age_lower": lower,
            "predicted_age_upper": upper,
            "chronological_age": np.array(ages, dtype=float),
            "qc_flags": [result.get("qc_flags") or "" for result in told],
            "seen_in_training": [result.get("seen_in_training") or "" for result in told],
        }
    )
    by_name = by_scan.groupby("participant_id", sort=False)
    table = pd.DataFrame(
        {
            "scans": by_name.size(),
            "predicted_age": by_name["predicted_age"].mean(),
            # No narrower than the interval of the mean: errors of scans may all be one way.
            "predicted_age_lower": by_name["predicted_age_lower"].agg(_mean_of_all),
            "predicted_age_upper": by_name["predicted_age_upper"].agg(_mean_of_all),
            # A participant's age at one scan alone says nothing of the mean over all.
            "chronological_age": by_name["chronological_age"].agg(_mean_of_all),
        }
    )
    table["brain_age_gap"] = table["predicted_age"] - table["chronological_age"]
    table["qc_flags"] = by_name["qc_flags"].agg(_all_flags)
    table["seen_in_training"] = by_name["seen_in_training"].agg(_seen_at_all)
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


def _all_flags(flags: "pd.Series[str]") -> str | float:
    distinct = dict.fromkeys(flag for cell in flags for flag in cell.split(";") if flag)
    return ";".join(distinct) or np.nan


def _seen_at_all(seen: "pd.Series[str]") -> str | float:
    found = set(seen)
    known = next((word for word in _SEEN if word in found), np.nan)
    # Of a scan that the model cannot tell of, it may have seen the person all the same.
    return np.nan if known == "no" and len(found) > 1 else known


def with_interval(people: pd.DataFrame, half_width: float) -> pd.DataFrame:
    """Give everybody an interval of the same width.

    Parameters
    ----------
    people : DataFrame
        As of `People`.
    half_width : float
        In years.

    Returns
    -------
    DataFrame
        With the ends of the intervals around the predicted ages.
    """
    lower, upper = age_interval(people["predicted_age"].to_numpy(dtype=float), half_width)
    return people.assign(predicted_age_lower=lower, predicted_age_upper=upper)


def with_session_ages(participants: Participants, rows: pd.DataFrame) -> tuple[Participants, str]:
    """Let the ages of a run count before a table's for whoever was scanned at sessions.

    A run states the age of each scan, and not whether it is that at the session or the table's. A
    table states one age a participant, which may be that at entry, years apart. So that of the run
    counts, which it was trained with: of several sessions, the age at each; a run that has one age
    for all of them has it whatever the table says.

    Parameters
    ----------
    participants : Participants
        The table that was given.
    rows : DataFrame
        Of the run: ``participant_id``, ``chronological_age`` (years) and, in a data set with
        sessions, ``session_id``, ``n/a`` where a scan has none.

    Returns
    -------
    Participants
        The table with those ages.
    str
        What must be said of whose age is another in the table; empty where nobody's is.
    """
    if "session_id" not in rows:
        return participants, ""
    at_sessions = rows["participant_id"][rows["session_id"].fillna("n/a") != "n/a"]
    given = rows.groupby("participant_id")["chronological_age"]
    # Of whoever has several ages, `gather_people` takes that of each scan, and none of the table.
    ages = given.first()[given.nunique() == 1]
    ages = ages[ages.index.isin(at_sessions)]
    ages = ages[ages.index.isin(participants.table.index)]
    stated = participants.table["age"]
    other = [str(name) for name, age in ages.items() if stated[str(name)] != age]
    table = participants.table.assign(age=ages.reindex(stated.index).fillna(stated))
    if not other:
        return participants, ""
    name = other[0]
    there = "none" if np.isnan(stated[name]) else f"{stated[name]:g}"
    return Participants(table), (
        f"{len(other)} participants have another age in --participants than at their sessions in "
        f"the run ({printable(name)}: {there} and {ages[name]:g} years"
        f"{', ...' if len(other) > 1 else ''}): that of the run counts. If the table is right, "
        "cross-validate with it."
    )


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
