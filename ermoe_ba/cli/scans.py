"""The scans that a command line means."""

import argparse
import sys
from collections.abc import Sequence

from ermoe_ba.cohort import Participants, one_age_remark
from ermoe_ba.errors import printable
from ermoe_ba.inputs import Selection, find_scans
from ermoe_ba.naming import ScanName


def meant_scans(options: argparse.Namespace) -> list[ScanName]:
    """Return the scans that the options choose; tell what was chosen for the user.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.

    Returns
    -------
    list of ScanName
        Each once, in the order given.

    Raises
    ------
    UsageError
        If inputs or labels cannot be used.
    """
    selection = Selection(
        participant_labels=tuple(options.participant_label),
        session_labels=tuple(options.session_label),
        one_a_session=options.one_per_session,
        age_from_dicom=options.age_from_dicom,
    )
    scans, remarks = find_scans(options.inputs, selection)
    for remark in remarks:
        print(f"note    {remark}", file=sys.stderr)
    return scans


def tell_missing(scans: Sequence[ScanName], participants: Participants | None) -> None:
    """Tell once of a batch whose participants the table of ages does not hold.

    Parameters
    ----------
    scans : sequence of ScanName
        The batch. An age at a scan's own session needs no table.
    participants : Participants or None
        The table, if one was given.
    """
    if participants is None:
        return
    there = participants.table.index
    asked = (scan.participant_id for scan in scans if not scan.age_at_session)
    missing = list(dict.fromkeys(name for name in asked if name not in there))
    if missing:
        print(
            f"note    --participants must have a row of every participant for their age to be "
            f"known; found none of {len(missing)} ({printable(missing[0])}"
            f"{', ...' if len(missing) > 1 else ''}): their scans are predicted all the same, "
            "without chronological age and gap.",
            file=sys.stderr,
        )


def tell_one_age(scans: Sequence[ScanName], participants: Participants | None) -> None:
    """Tell once of a batch whose sessions take an age that may be that of another session.

    Parameters
    ----------
    scans : sequence of ScanName
        The batch.
    participants : Participants or None
        The table, if one was given.
    """
    if remark := one_age_remark(scans, participants):
        print(
            f"note    {remark} Of files outside a data set, give a table of paths (columns path, "
            "participant_id, session_id and age) in place of --participants.",
            file=sys.stderr,
        )
