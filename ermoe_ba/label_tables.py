"""Tables of an atlas's labels, in the forms that atlases come with.

- ``.tsv``: BIDS, columns ``index`` and ``name``, and ``hemisphere`` if there is one.
- ``.txt``: FreeSurfer's lines of number, name and colour; or pairs of lines, the name above number
  and colour, as Connectome Workbench takes them; or one name a line, the first being label 1.
- ``.json``: a list ``labels``, the first being label 0.
"""

import json
import re
from pathlib import Path

import pandas as pd

from ermoe_ba.errors import UsageError
from ermoe_ba.given_tables import read_given

SUFFIXES = (".tsv", ".txt", ".json")
_NUMBERED = re.compile(r"(\d+)\s+([^\s\d]\S*)((?:\s+\d+){3,4})?")
_COLOURED = re.compile(r"(\d+)(?:\s+\d+){4}")
# Left-Thalamus, ctx-lh-insula, HIP-lh, 7Networks_LH_Vis_1, LH_Vis, Insula_L, Insula L.
_SIDES = re.compile(
    r"(?:^|[\W_])(?P<short>lh|rh)(?:$|[\W_])|^(?P<word>left|right)\b|[\s_](?P<letter>[LR])$",
    re.IGNORECASE,
)


def read_labels(path: Path) -> pd.DataFrame:
    """Read a label table.

    Parameters
    ----------
    path : Path
        A file of one of the forms above.

    Returns
    -------
    DataFrame
        ``index`` (whole numbers, each once), ``name`` and ``hemisphere`` (L, R or n/a; from the
        name where the table has no such column), one row a label.

    Raises
    ------
    UsageError
        If the file cannot be read, or has none of these forms.
    """
    try:
        if path.suffix == ".tsv":
            labels = _numbered(read_given(path, "the label table"))
        elif path.suffix == ".json":
            labels = _listed(json.loads(path.read_text(encoding="utf-8"))["labels"], first=0)
        elif path.suffix == ".txt":
            labels = _from_text(path.read_text(encoding="utf-8"))
        else:
            raise UsageError(f"{path}: a label table must end in {', '.join(SUFFIXES)}.")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{path}: the label table cannot be read ({type(error).__name__}: {error})."
        ) from error
    if not {"index", "name"} <= set(labels.columns):
        raise UsageError(f"{path}: a label table must have the columns index and name.")
    if not pd.api.types.is_integer_dtype(labels["index"]) or labels["index"].duplicated().any():
        raise UsageError(f"{path}: the column index must hold whole numbers, each once.")
    # JSON may name labels by numbers.
    labels["name"] = labels["name"].astype(str)
    if "hemisphere" not in labels:
        labels["hemisphere"] = labels["name"].map(hemisphere_of)
    return labels


def hemisphere_of(name: str) -> str:
    """Return L or R where the name of a region says so, else n/a.

    Read are ``lh`` and ``rh`` as a part of their own, ``Left`` and ``Right`` in front, and ``_L``
    or `` L`` at the end.

    Parameters
    ----------
    name : str
        Of a region.

    Returns
    -------
    {"L", "R", "n/a"}
        In BIDS's letters.
    """
    found = _SIDES.search(name)
    if not found:
        return "n/a"
    said = found["short"] or found["word"] or found["letter"]
    return said[0].upper()


def _numbered(labels: pd.DataFrame) -> pd.DataFrame:
    """Return a table of text with numbers where its index tells them."""
    if "index" not in labels:
        return labels
    return labels.assign(index=pd.to_numeric(labels["index"], errors="coerce"))


def _listed(names: list[str], *, first: int) -> pd.DataFrame:
    return pd.DataFrame({"index": range(first, first + len(names)), "name": names})


def _from_text(text: str) -> pd.DataFrame:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbered):
        rows = [(int(m[1]), m[2]) for m in numbered if m]
        return pd.DataFrame(rows, columns=["index", "name"])
    coloured = [_COLOURED.fullmatch(line) for line in lines]
    paired = len(lines) % 2 == 0 and all(coloured[1::2]) and not any(coloured[::2])
    if lines and paired:
        rows = [(int(m[1]), name) for m, name in zip(coloured[1::2], lines[::2], strict=True) if m]
        return pd.DataFrame(rows, columns=["index", "name"])
    if any(re.match(r"\d+\s", line) for line in lines):
        raise ValueError("lines of more than one form")
    return _listed(lines, first=1)
