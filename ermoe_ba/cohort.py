"""Who is in a study: the participants table."""

import json
import re
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
# How tables write an age that is not known; BIDS lets data sets hide high ages as 89+, no number.
UNKNOWN_AGES = ("n/a", "", "89+")
AN_AGE = f"a number of years from 0 to {MAX_AGE}, its decimals after a point (38.5)"
# In a header that lacks the columns, a sign that ages are meant: "Age", or "participant_id,age".
_AGE_WORD = re.compile(r"\bage\b", re.IGNORECASE)
# Years in the units that the JSON beside a table may state ages in, as words and as UCUM has them.
_YEARS_IN = {
    **dict.fromkeys(("year", "years", "yr", "yrs", "y", "a"), 1.0),
    **dict.fromkeys(("month", "months", "mo"), 1 / 12),
    **dict.fromkeys(("week", "weeks", "wk"), 7 / 365.25),
    **dict.fromkeys(("day", "days", "d"), 1 / 365.25),
}


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


def stated_years(
    cells: "pd.Series[str]", unit: float = 1.0
) -> tuple["pd.Series[float]", "pd.Series[bool]"]:
    """Return the ages that cells state, and which of them state what is no age.

    Parameters
    ----------
    cells : Series of str
        Numbers, those of `UNKNOWN_AGES`, or not a number where there is none.
    unit : float
        Years in the unit that they are stated in.

    Returns
    -------
    Series of float
        Years from 0 to `MAX_AGE`; not a number where unknown or no age.
    Series of bool
        Whether a cell holds neither an age nor that it is unknown.
    """
    known = cells.notna() & ~cells.isin(UNKNOWN_AGES)
    years = pd.to_numeric(cells.where(known), errors="coerce").astype(float) * unit
    wrong = known & ~years.between(0, MAX_AGE)
    return years.where(~wrong), wrong


def years_a_unit(*sidecars: Path) -> float:
    """Return the years in the unit that a table's JSON states for ages.

    Parameters
    ----------
    *sidecars : Path
        Where it may lie; of those that state ``Units`` of ``age``, the first counts.

    Returns
    -------
    float
        1 where none states them: BIDS takes years.

    Raises
    ------
    UsageError
        If one cannot be read, or its units are none of time.
    """
    for sidecar in filter(Path.is_file, sidecars):
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{sidecar}: must be readable JSON, which may state units; found {error}."
            ) from error
        age = content.get("age") if isinstance(content, dict) else None
        stated = age.get("Units") if isinstance(age, dict) else None
        if not isinstance(stated, str) or stated in UNKNOWN_AGES:
            continue
        # "Year(s)", "years old" and "in years" are years; "years and months" says nothing.
        words = re.findall("[a-z]+", stated.lower())
        units = {_YEARS_IN[word] for word in words if word in _YEARS_IN}
        if len(units) != 1:
            raise UsageError(
                f"{sidecar}: Units of age must be years, months, weeks or days; found {stated!r}."
            )
        return units.pop()
    return 1.0


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
        ``89+``) for unknown. A JSON of its name beside it may state the ``Units`` of ``age``.

    Returns
    -------
    Participants
        In the file's order.

    Raises
    ------
    UsageError
        If the file cannot be read, lacks a column, names a participant twice, or holds an age that
        is no age; or if the JSON cannot be read, or states units that are none of time.
    """
    table = read_given(path, "the participants table")
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
    ages, wrong = stated_years(table["age"], years_a_unit(path.with_suffix(".json")))
    if wrong.any():
        row = table[wrong].iloc[0]
        raise UsageError(
            f"{path}: an age must be {AN_AGE}, or n/a; found {row['age']!r} for "
            f"{row['participant_id']}."
        )
    return Participants(table.assign(age=ages).set_index("participant_id"))


def stated_ages(table: Path, names: str, remarks: list[str], *above: Path) -> dict[str, float]:
    """Return the ages of one of a data set's own tables, which need be neither there nor right.

    Whoever predicts may not be able to mend them, and no prediction needs an age.

    Parameters
    ----------
    table : Path
        ``participants.tsv`` or ``sub-…_sessions.tsv``.
    names : str
        Its column of names: ``participant_id`` or ``session_id``.
    remarks : list of str
        Told what makes ages unknown.
    *above : Path
        JSON that states units where that of the table's own name does not.

    Returns
    -------
    dict of str to float
        Years by name, without ``sub-`` or ``ses-``; of those that are known.
    """
    if not table.is_file():
        # DataLad links files whose content was not fetched.
        if table.is_symlink():
            remarks.append(f"{table}: its ages are unknown, since it links to no file")
        return {}
    try:
        content = read_given(table, "the table of ages")
        if not {names, "age"} <= set(content.columns):
            if _AGE_WORD.search(" ".join(content.columns)):
                remarks.append(
                    f"{table}: its ages are unknown, since its header must have the columns "
                    f"{names} and age, separated by tabs; found "
                    f"{printable(', '.join(map(repr, content.columns)))}"
                )
            return {}
        unit = years_a_unit(table.with_suffix(".json"), *above)
    except UsageError as error:
        remarks.append(f"{error} Its ages are unknown")
        return {}
    who = content[names].str.replace("^(?:sub|ses)-", "", regex=True)
    years, wrong = stated_years(content["age"], unit)
    twice = who.duplicated(keep=False)
    if (doubtful := twice | wrong).any():
        first = content[doubtful].iloc[0]
        remarks.append(
            f"{table}: the ages of {int(doubtful.sum())} rows count as unknown, since each must be "
            f"{AN_AGE}, and its {names} stand once; found first: {printable(first[names])}, "
            f"{first['age']!r}"
        )
    chosen = years.notna() & ~twice
    return dict(zip(who[chosen], years[chosen].astype(float), strict=True))
