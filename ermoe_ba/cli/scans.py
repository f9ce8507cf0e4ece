"""The scans that a command line means."""

import argparse
import sys

from ermoe_ba.inputs import Selection, find_scans
from ermoe_ba.naming import ScanName


def meant_scans(options: argparse.Namespace) -> list[ScanName]:
    """Return the scans that the options choose; tell what was chosen for the user.

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
