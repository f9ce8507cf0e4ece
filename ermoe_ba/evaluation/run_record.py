"""What a run wrote about itself beside its predictions: its metrics, and how its training went."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import ModelConfig

# Trainings of the age; other stages, such as the stem's, have losses of another kind.
_HISTORY = re.compile(r"(fold-\d+(?:_start-\d+)?)_history\.tsv")


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What lies beside a table of predictions.

    Parameters
    ----------
    metrics : dict
        ``metrics.json``; empty where there is none.
    histories : dict of str to DataFrame
        By ``fold-<K>`` or ``fold-<K>_start-<S>``: columns ``step`` and, where known, ``epoch``,
        ``loss`` and others, all numbers.
    expert_names : tuple of str
        Of the run's model; empty where there is none, or one of another version of the package.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    histories: dict[str, pd.DataFrame] = field(default_factory=dict)
    expert_names: tuple[str, ...] = ()


def read_run_record(folder: Path) -> RunRecord:
    """Read what a run left in its folder; nothing of it has to be there.

    Parameters
    ----------
    folder : Path
        Where the predictions lie.

    Returns
    -------
    RunRecord

    Raises
    ------
    UsageError
        If a file is there and is not what its name says.
    """
    found = [(_HISTORY.fullmatch(file.name), file) for file in sorted(folder.glob("*_history.tsv"))]
    return RunRecord(
        _json(folder / "metrics.json"),
        {match[1]: _history(file) for match, file in found if match},
        _expert_names(_json(folder / "model.json")),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        # Python's own reader lets in NaN, which nothing here could write again.
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except ValueError as error:
        raise UsageError(f"{path}: must be JSON ({error}). Remove it to go on.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: must hold names and values. Remove it to go on.")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _expert_names(card: dict[str, Any]) -> tuple[str, ...]:
    try:
        return from_plain(ModelConfig, card["model"]).expert_names
    except (KeyError, TypeError, ValueError):
        # Names are a courtesy: a card of another version stops no evaluation.
        return ()


def _history(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep="\t", na_values=["n/a"])
        table = table.astype(float)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: a history of training must be a table of numbers ({error})."
        ) from error
    if "step" not in table:
        raise UsageError(
            f"{path}: a history of training must have a column step; found "
            f"{', '.join(map(str, table.columns))}."
        )
    return table
