"""Large tables as Parquet beside their TSV: the same rows and numbers, typed."""

import csv
import glob
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from ermoe_ba.errors import UsageError
from ermoe_ba.io import remove_file, write_whole
from ermoe_ba.tables import EVALUATED_COLUMNS, PREDICTION_COLUMNS, read_tsv

# Below, a table has at most 2 MB and any program reads it at once: nobody gains by a second file.
# Above, a fifth of the size counts (100,000 rows: 4.6 MB against 21.4), and so do columns that can
# be read alone and types that no reader need guess.
PARQUET_ROWS = 10_000
PARQUET_SUFFIX = ".parquet"
# Cells that are no numbers; all others are doubles.
_TEXT = {
    "participant_id",
    "session_id",
    "input",
    "status",
    "qc_flags",
    "seen_in_training",
    "model_id",
    "preprocessing_id",
    "message",
    "fold",
    "calibration_fold",
}
NUMBERS = frozenset({*PREDICTION_COLUMNS, *EVALUATED_COLUMNS}) - _TEXT
_NEEDED = "Parquet needs an extra; install it: pip install 'ermoe_ba[parquet]'."
# An hour's job shares its machine; and nothing is ever fetched.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def write_parquet_beside(table: Path, rows: int) -> Path | None:
    """Write a finished TSV as Parquet too, if it is large; streamed, whole or not at all.

    A Parquet file of an earlier, larger table is removed.

    Parameters
    ----------
    table : Path
        As `write_table` writes it. Columns in `NUMBERS` become doubles, equal to the last digit,
        all others text; what is ``n/a``, or no number in a column of numbers (``89+``), is null.
    rows : int
        How many it has.

    Returns
    -------
    Path or None
        The file; None where the table has fewer than `PARQUET_ROWS`, or the extra is not
        installed, which is then said as a warning.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    path = table.with_suffix(PARQUET_SUFFIX)
    remove_file(path)
    if rows < PARQUET_ROWS:
        return None
    try:
        import duckdb
    except ImportError:
        warnings.warn(f"{table}: has {rows} rows. {_NEEDED}", stacklevel=2)
        return None
    with table.open(encoding="utf-8", newline="") as file:
        names = next(csv.reader(file, delimiter="\t"))
    # Without NULLIF, DuckDB 2.0 moves the cast into its reader, where it fails instead of trying.
    columns = ", ".join(
        f"TRY_CAST(NULLIF({_quoted(name)}, '') AS DOUBLE) AS {_quoted(name)}"
        if name in NUMBERS
        else _quoted(name)
        for name in names
    )

    def write(partial: Path) -> None:
        with duckdb.connect(config=_SETTINGS) as connection:
            connection.read_csv(
                glob.escape(str(table)),
                sep="\t",
                header=True,
                quotechar='"',
                escapechar='"',
                na_values="n/a",
                all_varchar=True,
                parallel=False,
            ).project(columns).write_parquet(str(partial), compression="zstd")

    write_whole(path, write)
    return path


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a table as it stands, all cells text, from TSV or Parquet.

    Parameters
    ----------
    path : Path
        Tab-separated, or Parquet where the name ends in ``.parquet``, whose numbers are written as
        Python writes them and whose nulls read ``n/a``: as in the TSV that it was made of.

    Returns
    -------
    DataFrame
        As from `ermoe_ba.tables.read_tsv`.

    Raises
    ------
    UsageError
        If a Parquet file is asked for without the extra.
    OSError, ValueError
        If the file cannot be read.
    """
    if path.suffix.lower() != PARQUET_SUFFIX:
        return read_tsv(path)
    try:
        import duckdb
    except ImportError as error:
        raise UsageError(f"{path}: {_NEEDED}") from error
    try:
        with duckdb.connect(config=_SETTINGS) as connection:
            found = connection.read_parquet(glob.escape(str(path)))
            names = list(found.columns)
            rows: list[tuple[Any, ...]] = found.fetchall()
    except duckdb.Error as error:
        raise ValueError(str(error).splitlines()[0]) from error
    cells = [["n/a" if cell is None else str(cell) for cell in row] for row in rows]
    return pd.DataFrame(cells, columns=names, dtype=str)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
