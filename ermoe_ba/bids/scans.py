"""A BIDS data set as a source of scans: its T1w files, and the ages that its tables state.

Needs the extra ``bids`` (pybids), which is imported when it is called.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ermoe_ba.cohort import read_participants, stated_ages
from ermoe_ba.errors import UsageError, printable

DESCRIPTION = "dataset_description.json"
_NAME = re.compile(r"sub-(?P<sub>[A-Za-z0-9]+)(?:_ses-(?P<ses>[A-Za-z0-9]+))?_")
_DERIVATIVE = re.compile(r"_(?:desc|space)-")
# Why a T1w file of a data set is none of its scans.
_DERIVED = (
    "desc- and space- name what a program made of a scan. Give such files one by one if they are "
    "meant"
)
_IGNORED = ".bidsignore names them; take its lines out if such files are meant"
_ASTRAY = "the names say another participant or session than their folders; rename or move them"


@dataclass(frozen=True, kw_only=True)
class BidsScan:
    """One T1w file of a data set.

    Parameters
    ----------
    path : Path
        The file.
    in_dataset : str
        Its path in the data set, with slashes.
    participant_id, session_id : str, str or None
        Without ``sub-`` and ``ses-``.
    chronological_age : float or None
        Years, from ``sub-…_sessions.tsv`` or else ``participants.tsv``.
    age_at_session : bool
        Whether it is from the former.
    other_sessions : bool
        Whether the data set has anatomical scans of the participant at other sessions, asked for
        or not.
    entities : dict
        All that the file name says.
    """

    path: Path
    in_dataset: str
    participant_id: str
    session_id: str | None
    chronological_age: float | None
    age_at_session: bool
    other_sessions: bool
    entities: dict[str, Any]

    @property
    def said(self) -> dict[str, Any]:
        """What the data set says of it, by the fields of `ermoe_ba.naming.ScanName`."""
        return {
            "in_dataset": self.in_dataset,
            "participant_id": self.participant_id,
            "session_id": self.session_id,
            "chronological_age": self.chronological_age,
            "age_at_session": self.age_at_session,
            "other_sessions": self.other_sessions,
        }


def is_dataset(folder: Path) -> bool:
    """Tell whether a folder is the root of a BIDS data set.

    Parameters
    ----------
    folder : Path
        Any path; it need not exist.

    Returns
    -------
    bool
        Whether there is a ``dataset_description.json`` in it.
    """
    return (folder / DESCRIPTION).is_file()


def scans_of(
    root: Path,
    participant_labels: Sequence[str] = (),
    session_labels: Sequence[str] = (),
    participants: Path | None = None,
) -> tuple[list[BidsScan], list[str]]:
    """Return the T1w scans of a data set, by path.

    Phase, real and imaginary parts (``part-``) are left out: they show no anatomy. So are what
    other programs made of scans (``desc-``, ``space-``), files in the folder of somebody else, and
    what the data set's ``.bidsignore`` names (`read_ignored`).

    Parameters
    ----------
    root : Path
        Of the data set.
    participant_labels, session_labels : sequence of str
        With or without ``sub-`` and ``ses-``; all, where there are none.
    participants : Path, optional
        Table of the participants' ages in place of the data set's own.

    Returns
    -------
    tuple
        The scans, and a remark on scans that are left out, and for each of the data set's own
        tables that holds what is no age, or somebody twice, or ages under another header: such ages
        are unknown.

    Raises
    ------
    UsageError
        If the extra is not installed, the data set or its ``.bidsignore`` cannot be read, it has no
        such scan, or the table given by `participants` cannot be used.
    """
    try:
        from bids import BIDSLayout
        from bids.layout import BIDSLayoutIndexer, parse_file_entities

        from ermoe_ba.bids.ignored import read_ignored
    except ImportError as error:
        raise UsageError(
            f"{root}: reading a BIDS data set needs an extra; install it: "
            "pip install 'ermoe_ba[bids]'."
        ) from error
    wanted = {
        "subject": [label.removeprefix("sub-") for label in participant_labels],
        "session": [label.removeprefix("ses-") for label in session_labels],
    }
    # A job for one participant must not walk through thousands of others.
    indexer = BIDSLayoutIndexer(index_metadata=False, ignore=[_elsewhere(**wanted)])
    try:
        layout = BIDSLayout(root, indexer=indexer)
    except (ValueError, OSError, TypeError) as error:
        # pybids tells it in several lines, with an example.
        told = " ".join(str(error).split())
        raise UsageError(
            f"{root}: must be a BIDS data set; pybids found {type(error).__name__}: {told}"
        ) from error
    # pybids reads entities off the whole path: a data set below a folder ``pet`` would hold no
    # anatomy, one below ``sub-study`` a single participant. What counts is inside of the data set.
    configs = list(layout.config.values())
    top = str(layout.root)
    entities_of = {
        path: parse_file_entities(f"/{path.relative_to(top).as_posix()}", config=configs)
        for path in map(Path, layout.get(extension=[".nii", ".nii.gz"], return_type="filename"))
    }
    found = {
        path: entities
        for path, entities in sorted(entities_of.items(), key=lambda item: str(item[0]))
        if entities.get("suffix") == "T1w" and entities.get("datatype") == "anat"
    }
    for entity, labels in wanted.items():
        there = {entities.get(entity) for entities in found.values()}
        gone = [label for label in labels if label not in there]
        if gone:
            folders = root.glob({"subject": "sub-*", "session": "sub-*/ses-*"}[entity])
            others = sorted({folder.name[4:] for folder in folders})
            raise UsageError(
                f"{root}: {entity} {', '.join(gone)} must have T1w scans; found none. "
                f"There are folders of {', '.join(others) or 'none'}."
            )
        if labels:
            found = {path: e for path, e in found.items() if e.get(entity) in labels}
    found = {path: e for path, e in found.items() if e.get("part") in (None, "mag")}
    remarks: list[str] = []
    ignored = read_ignored(root)
    for left_out, why in (
        ({path for path in found if ignored.match_file(path.relative_to(top))}, _IGNORED),
        # What pybids knows of a raw data set's names holds no desc.
        ({path for path in found if _DERIVATIVE.search(path.name)}, _DERIVED),
        ({path for path, e in found.items() if not _is_at_home(path, e)}, _ASTRAY),
    ):
        if left_out:
            found = {path: e for path, e in found.items() if path not in left_out}
            first = printable(min(left_out).relative_to(top).as_posix())
            more = ", ..." if len(left_out) > 1 else ""
            remarks.append(f"{root}: {len(left_out)} scans left out ({first}{more}): {why}")
    if not found:
        told = "".join(f" {remark}." for remark in remarks)
        raise UsageError(
            f"{root}: a data set must hold T1w scans (anat/*_T1w.nii.gz); found none.{told}"
        )
    if participants is not None:
        known = read_participants(participants).labelled.table["age"]
        ages = {str(name): float(age) for name, age in known.items()}
    else:
        ages = stated_ages(root / "participants.tsv", "participant_id", remarks)
    at_sessions: dict[str, dict[str, float]] = {}
    several: dict[str, bool] = {}
    scans = []
    for path, entities in found.items():
        participant, session = str(entities["subject"]), entities.get("session")
        if session and participant not in at_sessions:
            home = root / f"sub-{participant}"
            table = home / f"sub-{participant}_sessions.tsv"
            at_sessions[participant] = stated_ages(
                table, "session_id", remarks, root / "sessions.json"
            )
            several[participant] = len(list(home.glob("ses-*/anat"))) > 1
        at_session = at_sessions[participant].get(session) if session else None
        scans.append(
            BidsScan(
                path=path,
                in_dataset=path.relative_to(top).as_posix(),
                participant_id=participant,
                session_id=session,
                chronological_age=ages.get(participant) if at_session is None else at_session,
                age_at_session=at_session is not None,
                other_sessions=bool(session) and several[participant],
                entities=entities,
            )
        )
    return scans, remarks


def _is_at_home(path: Path, entities: Mapping[str, Any]) -> bool:
    """Tell whether a file's name says no other participant or session than its folders."""
    said = _NAME.match(path.name)
    if said is None:
        return True
    there = entities.get("subject"), entities.get("session")
    return said["sub"] == there[0] and said["ses"] in (None, there[1])


def _elsewhere(subject: Sequence[str], session: Sequence[str]) -> re.Pattern[str]:
    """Return what the paths inside a data set match that hold no scan that is meant."""
    who, when = ("|".join(map(re.escape, labels)) or "[^/]+" for labels in (subject, session))
    return re.compile(rf"^(?!/sub-(?:{who})(?:/ses-(?:{when}))?(?:/anat(?:/.*)?)?$)")


def one_a_session(scans: Sequence[BidsScan]) -> tuple[list[BidsScan], list[str]]:
    """Keep one scan of each session, and say of which there were more.

    The rule: a scan without contrast agent (``ce-``) before one with it; then the one whose name
    has the fewest entities, the plain product of its scanner; then the last run, as a run is
    repeated where the one before was not good enough; then the last name.

    Parameters
    ----------
    scans : sequence of BidsScan
        Of one data set.

    Returns
    -------
    tuple
        The scans kept, in the order given, and a remark for each session that had several.
    """
    sessions: dict[tuple[str, str | None], list[BidsScan]] = {}
    for scan in scans:
        sessions.setdefault((scan.participant_id, scan.session_id), []).append(scan)
    chosen, remarks = [], []
    for members in sessions.values():
        best = max(members, key=_merit)
        chosen.append(best)
        if len(members) > 1:
            others = ", ".join(scan.path.name for scan in members if scan is not best)
            remarks.append(f"{best.path.name} stands for its session; left out: {others}")
    return chosen, remarks


def _merit(scan: BidsScan) -> tuple[bool, int, int, str]:
    entities = scan.entities
    extra = len(set(entities) - {"run"})
    return "ceagent" not in entities, -extra, int(entities.get("run", 0)), scan.path.name
