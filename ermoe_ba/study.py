"""A study: the scans of people of known age, where they lie and whose they are."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ermoe_ba.bids import is_dataset, scans_of
from ermoe_ba.cohort import Participants, read_participants
from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.fingerprint import voxel_hash
from ermoe_ba.io import content_hash, read_t1w, remove_file
from ermoe_ba.naming import name_scans
from ermoe_ba.tables import write_table

# A table of some participants leaves out all others of its data set: a line has room for a few.
MAX_NAMED = 10

# scans.tsv of a run, one row a scan: name, and what it holds.
SCAN_COLUMNS: dict[str, str] = {
    "scan": "name of the scan, distinct within the study",
    "participant_id": "BIDS participant, without sub-",
    "session_id": "BIDS session, without ses-; n/a where there is none",
    "chronological_age": "years, at the session where the data set says so",
    "path": "the file, relative to the participants table where it lies below it",
    "content_hash": "SHA-256 of the file",
    "voxel_hash": "hash of the voxels, whatever file, format or data type holds them",
}
# unusable.tsv of a run, one row a scan that cannot take part.
UNUSABLE_COLUMNS = ("scan", "participant_id", "path", "message")


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
        Years at the scan.
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
        """Return the study without the scans of a table of `inspect_scans`."""
        gone = set(unusable["scan"])
        kept = tuple(scan for scan in self.scans if scan.name not in gone)
        return Study(self.root, kept, self.table, self.remarks)


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
        Whether its files can be used is not yet known: see `inspect_scans`.

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
    found = scans_of(participants_path.parent, participants=participants_path)
    # A single echo is no T1w contrast.
    found = [scan for scan in found if "echo" not in scan.entities]
    names = name_scans([scan.path for scan in found])
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


def inspect_scans(
    study: Study, known: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every file of a study once, before anything else is done with it.

    Parameters
    ----------
    study : Study
        Whose scans.
    known : DataFrame, optional
        What an earlier call found: files of the same content are not read again.

    Returns
    -------
    scans : DataFrame
        `SCAN_COLUMNS`, one row a scan that can be read.
    unusable : DataFrame
        `UNUSABLE_COLUMNS`, one row a scan that cannot, with the reason.
    """
    hashes = (
        {} if known is None else dict(zip(known["content_hash"], known["voxel_hash"], strict=True))
    )
    rows, faults = [], []
    for scan in tqdm(study.scans, desc="read", unit="scan", mininterval=2.0):
        path = scan.t1w.relative_to(study.root) if scan.t1w.is_relative_to(study.root) else scan.t1w
        says = {"scan": scan.name, "participant_id": scan.participant_id, "path": str(path)}
        try:
            if scan.labels is not None and not scan.labels.is_file():
                raise ScanError(
                    scan.labels,
                    must_hold="every scan of this recipe needs its label map",
                    found="no such file",
                    remedy="Add it, or train with the stem of a shipped model.",
                )
            content = content_hash(scan.t1w)
            voxels = hashes.get(content) or voxel_hash(read_t1w(scan.t1w))
        except ScanError as error:
            faults.append({**says, "message": str(error)})
            continue
        rows.append(
            {
                **says,
                "session_id": scan.session_id,
                "chronological_age": scan.chronological_age,
                "content_hash": content,
                "voxel_hash": voxels,
            }
        )
    return (
        pd.DataFrame(rows, columns=list(SCAN_COLUMNS)),
        pd.DataFrame(faults, columns=list(UNUSABLE_COLUMNS)),
    )


def refuse_twins(scans: pd.DataFrame) -> None:
    """Refuse a study in which two participants have the same voxels.

    Parameters
    ----------
    scans : DataFrame
        From `inspect_scans`.

    Raises
    ------
    UsageError
        If so: one person under two names would be trained on and tested.
    """
    people = scans.groupby("voxel_hash", sort=False)["participant_id"].unique()
    twins = [" = ".join(sorted(ids)) for ids in people if len(ids) > 1]
    if twins:
        raise UsageError(
            f"Each participant must have scans of their own; found the same voxels under several "
            f"names: {'; '.join(twins)}. One person in training and test alike makes every figure "
            "too good: give the scans one participant_id, or remove the copies."
        )


def report_unusable(path: Path, unusable: pd.DataFrame, *, go_on: bool) -> None:
    """Write which scans cannot take part, and stop unless they may be left out.

    Parameters
    ----------
    path : Path
        Of the table.
    unusable : DataFrame
        From `inspect_scans`; where it is empty, so is the place of the table.
    go_on : bool
        Whether the study may go on without them.

    Raises
    ------
    UsageError
        If it may not; all scans are named with their reasons.
    """
    if unusable.empty:
        # An earlier start may have found some that were mended since.
        remove_file(path)
        return
    write_table(path, unusable)
    if not go_on:
        raise UsageError(
            f"{len(unusable)} scans cannot be used, and nothing has been trained. Mend them, set "
            f"their age to n/a, or leave them out with --skip-unusable. {path} lists them: "
            + " | ".join(unusable["message"])
        )
