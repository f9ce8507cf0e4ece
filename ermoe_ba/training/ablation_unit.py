"""What one network of an ablation did, kept as two files.

Shapes: B test scans, T tokens, E experts.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json, write_whole
from ermoe_ba.space import Array

# First part of the names of figures that tell how far a change moves ages.
MOVED_BY = "moved_by_"


@dataclass(frozen=True)
class Routes:
    """Who served whom among the scans tested.

    Parameters
    ----------
    selected_bte : ndarray of bool
        Selected experts.
    weights_te : ndarray
        Mean routing weights.
    num_regional : int
        The first so many experts are tied to regions.
    """

    selected_bte: Array
    weights_te: Array
    num_regional: int


@dataclass(frozen=True)
class Unit:
    """What one network did on the scans it was not trained on.

    Parameters
    ----------
    participant_id : tuple of str
        Whose the scans tested are.
    chronological_age, predicted_age : tuple of float
        Years.
    figures : dict
        Seconds a step, sizes, and for mixtures what `probe_routing` measures besides.
    routes : Routes or None
        None where there is no routing, or every expert serves every token.
    stem : str
        Hash of the fold's stem: networks of one table see through the same.
    commit : str
        Of the software that trained it.
    """

    participant_id: tuple[str, ...]
    chronological_age: tuple[float, ...]
    predicted_age: tuple[float, ...]
    figures: dict[str, float]
    routes: Routes | None
    stem: str
    commit: str


def save_unit(path: Path, unit: Unit) -> None:
    """Write a unit as ``path`` (JSON), and its routes beside it (safetensors), before it.

    Parameters
    ----------
    path : Path
        Ends in ``.json``; where it stands, the unit is whole.
    unit : Unit
        To be kept.

    Raises
    ------
    OSError
        If either cannot be written.
    """
    if unit.routes is not None:
        arrays = {
            "selected_bte": unit.routes.selected_bte.astype(np.uint8),
            "weights_te": unit.routes.weights_te,
            "num_regional": np.array([unit.routes.num_regional]),
        }
        write_whole(_routes_path(path), lambda partial: save_file(arrays, partial))
    numbers = replace(unit, routes=None)
    write_json(path, asdict(numbers))


def load_unit(path: Path) -> Unit:
    """Read what `save_unit` wrote.

    Parameters
    ----------
    path : Path
        Of the JSON file.

    Returns
    -------
    Unit
        With routes where they lie beside it.

    Raises
    ------
    UsageError
        If the file is not what this version writes.
    """
    try:
        unit = from_plain(Unit, json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UsageError(
            f"{path} must be a network's result as this version keeps it; found: {error}. Remove "
            "it, and what lies beside it by its name: its network is trained again."
        ) from error
    if not _routes_path(path).is_file():
        return unit
    arrays = load_file(_routes_path(path))
    selected = arrays["selected_bte"].astype(bool)
    routes = Routes(selected, arrays["weights_te"], int(arrays["num_regional"][0]))
    return replace(unit, routes=routes)


def _routes_path(path: Path) -> Path:
    return path.with_suffix(".safetensors")


def changed_share(before_bte: Array, after_bte: Array) -> float:
    """Return the share of tokens whose set of experts differs, 0 to 1.

    Parameters
    ----------
    before_bte, after_bte : ndarray of bool
        Selected experts.

    Returns
    -------
    float
        Over all tokens of all scans.
    """
    return float((before_bte != after_bte).any(axis=-1).mean())
