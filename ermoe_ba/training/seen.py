"""Which members of a model have seen which people of a study."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ermoe_ba.errors import UsageError
from ermoe_ba.space import Array
from ermoe_ba.training_scans import TRAINING_SCANS, read_training_scans, told_of


@dataclass(frozen=True)
class Seen:
    """Who may be tested by whom.

    Parameters
    ----------
    unseen_mn : ndarray of bool, shape (M, N)
        Whether a member was trained without the participant of a scan.
    num_known : int
        Scans of participants on whom at least one member was trained.
    remark : str
        The same in words.
    """

    unseen_mn: Array
    num_known: int
    remark: str


def find_seen(folder: Path, scans: pd.DataFrame) -> Seen:
    """Compare a study with the people that a model was trained on.

    A participant is known by name or by the voxels of any scan. Members of a fold were trained
    without the participants of that fold, and these alone may test or tune them. Whose name and
    voxels, or several scans, point to more than one fold was seen by all members.

    Parameters
    ----------
    folder : Path
        Of the model; its members are its ``fold-*.safetensors`` in the order of their names.
    scans : DataFrame
        Columns of ``scans.tsv``, one row a scan.

    Returns
    -------
    Seen
        Of M members and N scans.

    Raises
    ------
    UsageError
        If all members were trained on some of the participants, or the model's table of them
        cannot be read.
    """
    members = [path.name.split("_")[0] for path in sorted(folder.glob("fold-*.safetensors"))]
    trained = read_training_scans(folder)
    untold = (
        f"{folder} does not say {{}} it was trained on ({TRAINING_SCANS}): if it was any of these "
        "people, its figures are too good."
    )
    if trained is None:
        everybody = np.ones((len(members), len(scans)), dtype=bool)
        return Seen(everybody, 0, untold.format("whom"))
    rows = told_of(trained)
    found: dict[str, set[str]] = {str(person): set() for person in scans["participant_id"]}
    for key in ("participant_id", "voxel_hash"):
        fold_of = dict(zip(rows[key], rows["fold"], strict=True))
        for person, value in zip(scans["participant_id"], scans[key].astype(str), strict=True):
            if value in fold_of:
                found[str(person)].add(f"fold-{fold_of[value]}")
    known = [found[str(person)] for person in scans["participant_id"]]
    unseen = np.array([[folds <= {name} for folds in known] for name in members])
    lost = scans["participant_id"].iloc[np.flatnonzero(~unseen.any(axis=0))].unique()
    if len(lost):
        raise UsageError(
            f"{folder}: at least one member must have been trained without each participant; all "
            f"were trained on {', '.join(map(str, lost))} (by name or by voxels). Leave these "
            "people out, rename them if they are others, or take a cross-validated model."
        )
    count = sum(bool(folds) for folds in known)
    remark = (
        f"{count} of {len(known)} scans are of people the model was trained on; they are tuned and "
        "tested by the members of their own fold alone, which never saw them."
        if count
        else "By name and by voxels, the model was trained on none of these people."
    )
    if len(rows) < len(trained):
        remark = f"{remark} But {untold.format('who else')}"
    return Seen(unseen, count, remark)
