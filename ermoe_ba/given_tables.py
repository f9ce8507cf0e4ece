"""Tables that users give, as spreadsheets write them."""

from pathlib import Path

import pandas as pd

from ermoe_ba.errors import UsageError
from ermoe_ba.parquet import read_text_table


def read_given(path: Path, what: str) -> pd.DataFrame:
    """Read a table that a user gives, all cells text.

    Parameters
    ----------
    path : Path
        As `read_text_table` takes it.
    what : str
        The table's name in messages: ``the predictions``.

    Returns
    -------
    DataFrame
        As from `read_text_table`, without spaces around the names of columns.

    Raises
    ------
    UsageError
        If it is in another encoding, names a column twice or cannot be read.
    """
    try:
        # Spreadsheets leave spaces.
        table = read_text_table(path).rename(columns=str.strip)
        if table.columns.has_duplicates:
            raise ValueError("its header names a column twice")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: {what} must be text in UTF-8; found another encoding ({error.reason}). Save "
            "the table as tab-separated text in UTF-8."
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {what} cannot be read ({error}).") from error
    return table
