"""A study on the screen: who takes part, and who does not."""

import sys

from ermoe_ba.study import Study


def tell_study(study: Study) -> None:
    """Say how many scans of how many people take part, and who was left out and why.

    Parameters
    ----------
    study : Study
        Scans and participants, with remarks on those left out.
    """
    for remark in study.remarks:
        print(f"note    {remark}", file=sys.stderr)
    people = study.participants.table["age"]
    print(
        f"{len(study.scans)} scans of {len(people)} participants, {people.min():.0f} to "
        f"{people.max():.0f} years."
    )
