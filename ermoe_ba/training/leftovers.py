"""What killed processes left half-written in folders of training: a fold's may be gigabytes."""

from contextlib import suppress
from pathlib import Path

from ermoe_ba.partial import sweep


def sweep_below(folder: Path, within: str = "**") -> None:
    """Remove what dead processes of this machine left half-written; others may be at work there.

    What may not be removed stays: folders may be shared with other people.

    Parameters
    ----------
    folder : Path
        Need not exist.
    within : str
        Pattern of the folders that are looked into, relative to `folder`; by default it and all
        below it.
    """
    for partial in list(folder.glob(f"{within}/.partial-*")):
        # As `ermoe_ba.partial.prefix_of` names them: after the file's own name come host, process
        # and what makes the name its own, none of them with a hyphen.
        name = partial.name.removeprefix(".partial-").rsplit("-", maxsplit=3)[0]
        with suppress(OSError):
            sweep(partial.with_name(name))
