"""Tables that users give, as spreadsheets write them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ermoe_ba.errors import UsageError
from ermoe_ba.parquet import read_text_table


def read_given(path: Path, what: str, *, verbatim: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table that a user gives, all cells text, without spaces around them.

    Parameters
    ----------
    path : Path
        As `read_text_table` takes it.
    what : str
        The table's name in messages: ``the predictions``.
    verbatim : sequence of str
        Columns whose cells keep their spaces: a file's name may end in one.

    Returns
    -------
    DataFrame
        As from `read_text_table`, but for the spaces, also around the names of columns.

    Raises
    ------
    UsageError
        If it is in another encoding, names a column twice or cannot be read.
    """
    try:
        # Spreadsheets leave spaces, with which one person or site is two.
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
    stripped = table.columns.difference(list(verbatim))
    return table.assign(**{name: table[name].str.strip() for name in stripped})
