"""One scan's results in the folder where `predict` wrote them, and the rows of those without."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.scan_files import PREDICTION
from ermoe_ba.tables import LATER_COLUMNS, PREDICTION_COLUMNS, PREDICTIONS, read_predictions

AGAIN = "Predict the scan again, with maps."
# Columns that a prediction may do without.
_MAY_LACK = {"message", "qc_flags", *LATER_COLUMNS}


@dataclass(frozen=True, kw_only=True)
class KeptScan:
    """One scan that was predicted.

    Parameters
    ----------
    folder : Path
        Where its files lie.
    name : str
        What their names begin with.
    result : dict
        What its ``prediction.json`` holds.
    """

    folder: Path
    name: str
    result: dict[str, Any]

    def path(self, suffix: str) -> Path:
        """Return the path of one of its files, by what follows the scan's name.

        Parameters
        ----------
        suffix : str
            As in `ermoe_ba.scan_files`.

        Returns
        -------
        Path
            It need not exist.
        """
        return self.folder / f"{self.name}_{suffix}"


def find_kept(root: Path) -> list[Path]:
    """Return the ``prediction.json`` of all scans in a folder and below, by path.

    Parameters
    ----------
    root : Path
        Of results.

    Returns
    -------
    list of Path
        At least one.

    Raises
    ------
    UsageError
        If there is none.
    """
    found = sorted(root.rglob(f"*_{PREDICTION}"))
    if not found:
        raise UsageError(
            f"{root}: must hold what `ermoe-ba predict` wrote; found no file *_{PREDICTION} in it "
            "or below."
        )
    return found


def read_kept(path: Path) -> KeptScan:
    """Read one ``prediction.json``.

    Parameters
    ----------
    path : Path
        Of the JSON; the scan's other files lie beside it.

    Returns
    -------
    KeptScan
        The JSON's content, with its name and folder.

    Raises
    ------
    ScanError
        If it cannot be read or lacks a column of the table of predictions.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        missing = sorted(set(PREDICTION_COLUMNS) - _MAY_LACK - set(result))
    except (OSError, ValueError, TypeError) as error:
        raise ScanError(
            path, must_hold="must be readable JSON", found=str(error), remedy=AGAIN
        ) from error
    if missing:
        raise ScanError(
            path,
            must_hold="must hold a prediction of this version",
            found=f"no {', '.join(missing)}",
            remedy=AGAIN,
        )
    name = path.name.removesuffix(f"_{PREDICTION}")
    return KeptScan(folder=path.parent, name=name, result=result)


def rows_without_result(root: Path, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of all tables in a folder and below that are of none of some results.

    Parameters
    ----------
    root : Path
        Of the tables.
    results : sequence of dict
        What ``prediction.json`` holds, of each scan.

    Returns
    -------
    list of dict
        One an input, by column, all cells text.

    Raises
    ------
    UsageError
        If a table cannot be read.
    """
    known = {_age_of(result) for result in results}
    tables = [read_predictions(path) for path in sorted(root.rglob(f"*{PREDICTIONS}"))]
    # A BIDS App writes a table a session, and gathers them into one, which may be older: of an
    # input that has a result, no table may tell what was before.
    rows = [row for table in tables for row in table.to_dict("records")]
    done = {row["input"] for row in rows if _age_of(row) in known}
    rest = {row["input"]: row for row in rows if row["input"] not in done}
    return [{str(key): value for key, value in row.items()} for row in rest.values()]


def _age_of(row: Mapping[Any, Any]) -> tuple[str, str, str]:
    """Return what ties a row to its result: tables name a scan by its path, results do not."""
    return str(row["participant_id"]), str(row["session_id"] or "n/a"), str(row["predicted_age"])
