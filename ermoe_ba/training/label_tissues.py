"""Which tissue each label of a cohort's label maps is of."""

from pathlib import Path

from ermoe_ba.errors import UsageError
from ermoe_ba.given_tables import read_given
from ermoe_ba.model.config import TISSUES


def tissue_of_label(path: Path) -> dict[int, str]:
    """Return the tissue of each label that a table tells.

    Parameters
    ----------
    path : Path
        A table with the columns ``index`` and ``tissue``.

    Returns
    -------
    dict of int to str
        Names from `TISSUES`, in the order of the table.

    Raises
    ------
    UsageError
        If the table cannot be read, lacks a column, tells a label twice or by no whole number, or
        names a tissue that the stem does not know.
    """
    table = read_given(path, "the label table")
    missing = {"index", "tissue"} - set(table.columns)
    if missing:
        raise UsageError(
            f"{path}: the label table must have the columns index and tissue (tab-separated); "
            f"missing: {', '.join(sorted(missing))}."
        )
    whole = table["index"].str.fullmatch(r"\d+")
    if not whole.all() or table["index"].duplicated().any():
        raise UsageError(f"{path}: the column index must hold whole numbers, each once.")
    unknown = sorted(set(table["tissue"]) - set(TISSUES))
    if unknown:
        raise UsageError(
            f"{path}: each tissue must be one of {', '.join(TISSUES)}; found {', '.join(unknown)}."
        )
    return dict(zip(table["index"].astype(int), table["tissue"], strict=True))
