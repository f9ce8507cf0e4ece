"""A study: the scans of people of known age, where they lie and whose they are."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ermoe_ba.bids import is_dataset, scans_of
from ermoe_ba.cohort import Participants, one_age_remark, read_participants
from ermoe_ba.errors import UsageError, printable
from ermoe_ba.naming import name_scans

# A table of some participants leaves out all others of its data set: a line has room for a few.
MAX_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class StudyScan:
    """One scan of a person of known age.

    Parameters
    ----------
    name : str
        Distinct within the study; the participant where each has one scan, found by a pattern.
    participant_id, session_id : str, str or None
        Without ``sub-`` and ``ses-``.
    chronological_age : float
        Years at the scan: the age at its own session where the data set states one. Tables of a run
        hold it as it stands here, so that whoever reads them need not look for it again.
    t1w : Path
        The file.
    labels : Path or None
        Its label map, where the study has them.
    """

    name: str
    participant_id: str
    session_id: str | None
    chronological_age: float
    t1w: Path
    labels: Path | None


@dataclass(frozen=True)
class Study:
    """All scans that take part.

    Parameters
    ----------
    root : Path
        Folder of the participants table.
    scans : tuple of StudyScan
        In the order of the table, or of the data set.
    table : DataFrame
        The participants table.
    remarks : tuple of str
        Who was left out, and why.
    """

    root: Path
    scans: tuple[StudyScan, ...]
    table: pd.DataFrame
    remarks: tuple[str, ...] = ()

    @property
    def participants(self) -> Participants:
        """Those who have scans: their row of the table, the age the mean of their scans."""
        ages = pd.DataFrame(
            {
                "participant_id": [scan.participant_id for scan in self.scans],
                "age": [scan.chronological_age for scan in self.scans],
            }
        )
        mean = ages.groupby("participant_id", sort=False)["age"].mean()
        return Participants(self.table.loc[mean.index].assign(age=mean))

    def without(self, unusable: pd.DataFrame) -> "Study":
        """Return the study without the scans of a table of unusable ones.

        Parameters
        ----------
        unusable : DataFrame
            Column ``scan``: names of scans, which need not be the study's.

        Returns
        -------
        Study
            In the same order.
        """
        gone = set(unusable["scan"])
        kept = tuple(scan for scan in self.scans if scan.name not in gone)
        return Study(self.root, kept, self.table, self.remarks)

    def refuse_beyond(self, bounds: tuple[float, ...]) -> None:
        """Refuse ages that a model with these bounds cannot give.

        Parameters
        ----------
        bounds : tuple of float
            Lowest and highest age in years, as ``age_bounds`` of a recipe's ``[model]``; none
            refuses nobody.

        Raises
        ------
        UsageError
            If a scan's age does not lie between them: all of these, named.
        """
        if not bounds:
            return
        low, high = bounds
        beyond = [scan for scan in self.scans if not low < scan.chronological_age < high]
        if beyond:
            named = ", ".join(f"{s.name} ({s.chronological_age:g})" for s in beyond[:MAX_NAMED])
            raise UsageError(
                f"Ages must lie between {low:g} and {high:g} years, the recipe's age_bounds; found "
                f"{len(beyond)} beyond: {printable(named)}. State other bounds, or leave these "
                "scans out."
            )


def read_study(participants_path: Path, t1w: str | None, labels: str | None) -> Study:
    """Find the scans of all participants whose age is known.

    Parameters
    ----------
    participants_path : Path
        The participants table. Who is not in it takes no part.
    t1w : str, optional
        Path of a participant's scan relative to the table, with ``{participant_id}`` in it. Without
        one, the table must lie in the root of a BIDS data set: all its T1w scans count, at the age
        that ``sub-…_sessions.tsv`` states, else at that of the table.
    labels : str, optional
        Path of a scan's label map relative to the table, with ``{participant_id}``,
        ``{session_id}`` or ``{scan}`` (the name without ``_T1w``) in it.

    Returns
    -------
    Study
        Whether its files can be used is not yet known: see `ermoe_ba.inspection`.

    Raises
    ------
    UsageError
        If the table or the data set cannot be read, or nobody with a known age has a scan.
    """
    participants = read_participants(participants_path)
    root = participants_path.parent
    remarks: list[str] = []
    if t1w is None:
        if not is_dataset(root):
            raise UsageError(
                f"{participants_path}: without t1w in the recipe, the table must lie in the root "
                "of a BIDS data set (beside dataset_description.json); found none. State "
                't1w = "PATH/{participant_id}...", relative to the table.'
            )
        scans = _of_dataset(participants_path, participants, remarks)
    else:
        ages = participants.labelled.table["age"]
        scans = [
            StudyScan(
                name=participant_id,
                participant_id=participant_id,
                session_id=None,
                chronological_age=float(age),
                t1w=root / t1w.format(participant_id=participant_id),
                labels=None,
            )
            for participant_id, age in zip(map(str, ages.index), ages, strict=True)
        ]
    if not scans:
        raise UsageError(f"{participants_path}: nobody with a known age has a scan.")
    if labels is not None:
        scans = [_with_labels(scan, root, labels) for scan in scans]
    return Study(root, tuple(scans), participants.table, tuple(remarks))


def _of_dataset(
    participants_path: Path, participants: Participants, remarks: list[str]
) -> list[StudyScan]:
    found, unread = scans_of(participants_path.parent, participants=participants_path)
    remarks += unread
    # A single echo is no T1w contrast.
    found = [scan for scan in found if "echo" not in scan.entities]
    names = [
        replace(name, **scan.said)
        for name, scan in zip(name_scans([scan.path for scan in found]), found, strict=True)
    ]
    known = set(participants.table.index)
    scans = []
    for scan, name in zip(found, names, strict=True):
        if scan.chronological_age is None or scan.participant_id not in known:
            continue
        scans.append(
            StudyScan(
                name=name.name,
                participant_id=scan.participant_id,
                session_id=scan.session_id,
                chronological_age=scan.chronological_age,
                t1w=scan.path,
                labels=None,
            )
        )
    if remark := one_age_remark(names, None):
        remarks.append(remark)
    seen = {scan.participant_id for scan in scans}
    for why, gone in (
        ("no T1w scan", sorted(set(participants.labelled.table.index) - seen)),
        ("no age in the table", sorted({scan.participant_id for scan in found} - seen)),
    ):
        if gone:
            more = ", ..." if len(gone) > MAX_NAMED else ""
            names_gone = ", ".join(gone[:MAX_NAMED])
            remarks.append(f"{len(gone)} participants have {why}: {names_gone}{more}")
    return scans


def _with_labels(scan: StudyScan, root: Path, pattern: str) -> StudyScan:
    path = root / pattern.format(
        participant_id=scan.participant_id, session_id=scan.session_id, scan=scan.name
    )
    return StudyScan(**{**vars(scan), "labels": path})
