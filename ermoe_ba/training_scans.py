"""Whom a model was trained on, and whether a scan is one of theirs."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from ermoe_ba.errors import UsageError
from ermoe_ba.fingerprint import voxel_hash
from ermoe_ba.t1w import read_t1w
from ermoe_ba.tables import read_tsv, write_table

# Of a model: who was trained on, in which fold they were left out, and the hash of their voxels.
TRAINING_SCANS = "training_scans.tsv"
_COLUMNS = ["participant_id", "session_id", "voxel_hash", "fold"]
# Its row for people that nobody wrote down: a model tuned from one that does not tell of them. No
# hash is written so.
_NOT_KNOWN = "n/a"
UNTOLD = pd.DataFrame([dict.fromkeys(_COLUMNS, _NOT_KNOWN)])
# What predictions.tsv says in the column of this name; n/a where the model does not tell.
SEEN = "seen_in_training"
Answer = Literal["yes", "name", "no"]


@dataclass(frozen=True, kw_only=True)
class TrainingScans:
    """The scans that a model was trained on.

    Parameters
    ----------
    voxels : frozenset of str
        Hash of each scan, from `ermoe_ba.fingerprint.voxel_hash`.
    participants : frozenset of str
        Their names, without ``sub-``.
    complete : bool
        Whether there are no others. False of a model tuned from one that does not tell.
    identity : str
        Hash of these, which results are traced by.
    """

    voxels: frozenset[str]
    participants: frozenset[str]
    complete: bool
    identity: str

    @classmethod
    def of(cls, table: pd.DataFrame) -> "TrainingScans":
        """Gather what a table from `read_training_scans` says.

        Parameters
        ----------
        table : DataFrame
            One row a scan, and that of `UNTOLD` where there were others.

        Returns
        -------
        TrainingScans
        """
        rows = told_of(table)
        complete = len(rows) == len(table)
        voxels = frozenset(rows["voxel_hash"])
        participants = frozenset(name.removeprefix("sub-") for name in rows["participant_id"])
        told = "\n".join([*sorted(voxels), "", *sorted(participants)])
        # The identity of a complete record is what it was before others could be unknown.
        told += "" if complete else "\n\nand others"
        identity = hashlib.sha256(told.encode()).hexdigest()[:12]
        return cls(voxels=voxels, participants=participants, complete=complete, identity=identity)

    def find(self, participant_id: str, voxels: str) -> Answer | None:
        """Tell whether a scan is one of them, by its voxels first.

        A name proves nothing, since data sets share names such as ``01``; but it is all that tells
        of a person's other scans and of a training scan that was resampled.

        Parameters
        ----------
        participant_id : str
            Whose scan it is said to be. A file's own name, where it is no BIDS name, may go on
            after the participant's: ``IXI012-HH-1211-T1`` is taken for one of ``IXI012-HH-1211``.
        voxels : str
            Hash of the scan, from `ermoe_ba.fingerprint.voxel_hash`.

        Returns
        -------
        {"yes", "name", "no"} or None
            ``yes``: the model was trained on these very voxels. ``name``: not on these that it
            tells of, but on a participant of that name. ``no``: on neither. None: on neither that
            it tells of, and there were others.
        """
        if voxels in self.voxels:
            return "yes"
        # The name, and each of its beginnings that a sign which is no letter or digit ends.
        ends = [match.start() for match in re.finditer(r"[^A-Za-z0-9]", participant_id)]
        names = {participant_id[:end] for end in (*ends, len(participant_id))}
        if names & self.participants:
            return "name"
        return "no" if self.complete else None


def told_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table from `read_training_scans` that tell of a scan.

    Parameters
    ----------
    table : DataFrame
        Column ``voxel_hash``.

    Returns
    -------
    DataFrame
        Shorter than the table where the model learnt from others as well (`UNTOLD`).
    """
    return table[table["voxel_hash"] != _NOT_KNOWN]


def keep_training_scans(out: Path, scans: pd.DataFrame, fold_of: pd.Series | None) -> None:
    """Write whom a model was trained on, so that nobody is tested by members that saw them.

    Parameters
    ----------
    out : Path
        Folder of the model.
    scans : DataFrame
        Columns ``participant_id``, ``session_id`` and ``voxel_hash``, one row a scan, and that of
        `UNTOLD` where there were others.
    fold_of : Series or None
        By participant_id, the fold whose members did not see them; None where all members did.
    """
    table = scans[_COLUMNS[:3]]
    fold = None if fold_of is None else table["participant_id"].map(fold_of)
    write_table(out / TRAINING_SCANS, table.assign(fold=fold))


def read_training_scans(folder: Path) -> pd.DataFrame | None:
    """Read whom a model was trained on.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    DataFrame or None
        Columns ``participant_id``, ``session_id``, ``voxel_hash`` and ``fold``, all text: names
        may be 007 or NA; one row is `UNTOLD` where it tells of some only. None where the model
        does not tell.

    Raises
    ------
    UsageError
        If the table cannot be read or lacks a column.
    """
    path = folder / TRAINING_SCANS
    if not path.is_file():
        return None
    try:
        table = read_tsv(path)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: the table of training scans cannot be read ({error})."
        ) from error
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise UsageError(
            f"{path}: must have the columns {', '.join(_COLUMNS)} (tab-separated); missing: "
            f"{', '.join(missing)}. Copy it again from the model's training."
        )
    return table[_COLUMNS]


def seen_in_training(known: TrainingScans | None, participant_id: str, path: Path) -> Answer | None:
    """Tell whether a model was trained on a scan, from its file.

    Parameters
    ----------
    known : TrainingScans or None
        Of the model; None where it does not tell.
    participant_id : str
        Whose scan it is said to be.
    path : Path
        The scan as it came, not preprocessed.

    Returns
    -------
    {"yes", "name", "no"} or None
        As `TrainingScans.find`; where the model tells of nobody, None, and the file is not read.

    Raises
    ------
    ScanError
        If the scan cannot be read.
    """
    return None if known is None else known.find(participant_id, voxel_hash(read_t1w(path)))


def count_seen(answers: Iterable[object]) -> dict[str, int]:
    """Count scans by what is known of them: ``yes``, ``name``, ``no`` or ``unknown``.

    Parameters
    ----------
    answers : iterable
        From `TrainingScans.find`, or cells of the column `SEEN`; anything else is unknown.

    Returns
    -------
    dict of str to int
        All four, in this order.
    """
    counts = dict.fromkeys(("yes", "name", "no", "unknown"), 0)
    for answer in answers:
        counts[str(answer) if answer in ("yes", "name", "no") else "unknown"] += 1
    return counts


def seen_remark(counts: Mapping[str, int]) -> str:
    """Return what must be known of figures of these scans, one line; empty where there is nothing.

    Parameters
    ----------
    counts : mapping of str to int
        From `count_seen`.

    Returns
    -------
    str
        Sentences, without a line break.
    """
    total, told = sum(counts.values()), []
    if counts["yes"]:
        told.append(
            f"Seen in training: {counts['yes']} of {total} scans ({SEEN} = yes). Their ages are "
            "not out of fold, and errors measured on them are too small."
        )
    if counts["name"]:
        told.append(
            f"By the names of people the model was trained on: {counts['name']} of {total} scans "
            f"({SEEN} = name), on other voxels. If these are the same people, their ages are not "
            "out of fold either."
        )
    if counts["unknown"]:
        told.append(
            f"Not known whether seen in training: {counts['unknown']} of {total} scans. Only a "
            f"model tells whose {TRAINING_SCANS} names all it learnt from."
        )
    return " ".join(told)
