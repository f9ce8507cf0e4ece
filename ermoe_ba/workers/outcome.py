"""One scan's task, and what became of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ermoe_ba.derivatives import Derivative
from ermoe_ba.errors import printable
from ermoe_ba.naming import ScanName


@dataclass(frozen=True, kw_only=True)
class Task:
    """One scan, and where what is made of it goes.

    Parameters
    ----------
    scan : ScanName
        The scan.
    folder : Path
        Of its results.
    derivative : Derivative or None
        Where its preprocessed form lies, or shall lie.
    """

    scan: ScanName
    folder: Path
    derivative: Derivative | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one scan.

    Parameters
    ----------
    row : dict
        Its row of ``predictions.tsv``; of a preprocessed scan, the columns that apply.
    written : tuple of Path
        Its files.
    kept : bool
        Whether the work had been done before, by an earlier run.
    stages : dict
        Seconds by stage.
    thumbnail : bytes
        PNG of the brain and its outline; empty where there is no brain.
    """

    row: dict[str, Any]
    written: tuple[Path, ...] = ()
    kept: bool = False
    stages: dict[str, float] = field(default_factory=dict)
    thumbnail: bytes = b""


def failure(
    row: dict[str, Any],
    message: str,
    seconds: float | None = None,
    *,
    status: Literal["failed", "refused"] = "failed",
) -> Outcome:
    """Return the outcome of a scan that has none but a reason, which is brought to one line.

    Parameters
    ----------
    row : dict
        What is known of the scan, by columns of ``predictions.tsv``.
    message : str
        Why there is no age, in any number of lines.
    seconds : float, optional
        Time spent on it; None where that is not known.
    status : {"failed", "refused"}
        Refused is what can be read, but whose content forbids an age.

    Returns
    -------
    Outcome
        With the row alone: no file.
    """
    return Outcome(row={**row, "status": status, "message": one_line(message), "seconds": seconds})


def one_line(message: str) -> str:
    """Return a message in a form that a cell of a table holds.

    Parameters
    ----------
    message : str
        Any text.

    Returns
    -------
    str
        Without breaks, tabs and control characters.
    """
    return printable(" ".join(message.split()))


def known_of(scan: ScanName) -> dict[str, Any]:
    """Return what a row holds of a scan before any work.

    Parameters
    ----------
    scan : ScanName
        Who it is.

    Returns
    -------
    dict
        By columns of ``predictions.tsv``: ``participant_id``, ``session_id`` (None where there is
        none) and ``input``, each in one line.
    """
    return {
        "participant_id": printable(scan.participant_id),
        "session_id": None if scan.session_id is None else printable(scan.session_id),
        "input": printable(str(scan.path)),
    }
