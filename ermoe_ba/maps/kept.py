"""A cohort's maps as they stand in their folder: all that their page is made of."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ermoe_ba.errors import UsageError, printable
from ermoe_ba.io import read_volume
from ermoe_ba.maps.files import (
    DESCRIPTION,
    EFFECTS,
    EXPERT_LABELS,
    EXPERTS,
    PARTICIPANTS,
    REGIONS,
    TRAINING,
)
from ermoe_ba.maps.people import OWN_COLUMNS
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Volume
from ermoe_ba.tables import COHORT_REGION_COLUMNS, EFFECT_COLUMNS, EXPERT_COLUMNS, read_tsv

AGAIN = "Make the maps again with `ermoe-ba maps`."
# Columns of each table that its readers need; of participants, those of the user come besides.
_COLUMNS = {
    REGIONS: tuple(COHORT_REGION_COLUMNS),
    EXPERTS: tuple(EXPERT_COLUMNS),
    EFFECTS: tuple(EFFECT_COLUMNS),
    EXPERT_LABELS: ("index", "name", "kind"),
    PARTICIPANTS: OWN_COLUMNS,
    TRAINING: ("chronological_age", "predicted_age"),
}
# Of these columns, those that hold text; the others hold numbers, and of those the whole ones.
_TEXT = {
    *("expert", "kind", "region", "hemisphere", "effect", "map", "peak_region"),
    *("peak_hemisphere", "name", "participant_id", "qc_flags", "seen_in_training"),
}
_WHOLE = {"index", "scans"}
# What the description tells of the cohort, the model and the maps.
_TOLD = (
    *("participants", "scans", "participants_of_known_age", "mean_predicted_age"),
    *("model_id", "members", "out_of_fold", "coverage", "training_participants"),
    *("model_mae", "model_mae_interfered"),
    *("effects", "effect_channels", "permutations", "surrogates", "region_tests", "smallest_q"),
    *("seed", "atlas", "atlas_licence", "atlas_sampling", "software"),
)


@dataclass(frozen=True)
class KeptMaps:
    """What `ermoe-ba maps` wrote into a folder, tables and description read, volumes on demand.

    Parameters
    ----------
    folder : Path
        Where the files lie.
    description : dict
        What ``maps.json`` holds.
    tables : dict
        Name of a file to the table in it: numbers as numbers, not a number where there is none.
    """

    folder: Path
    description: dict[str, Any]
    tables: dict[str, pd.DataFrame]

    @classmethod
    def of(cls, folder: Path) -> "KeptMaps":
        """Read a folder's description and tables.

        Parameters
        ----------
        folder : Path
            Holds ``maps.json``.

        Returns
        -------
        KeptMaps
            With the tables of effects and of training ages where there are any.

        Raises
        ------
        UsageError
            If a file is missing, or is none of this version.
        """
        path = folder / DESCRIPTION
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            missing = [name for name in _TOLD if name not in description]
        except (OSError, ValueError, TypeError) as error:
            raise _refused(path, "must be readable JSON", error) from error
        if missing:
            raise UsageError(
                f"{printable(str(path))}: must describe maps of this version; found no "
                f"{', '.join(missing)}. {AGAIN}"
            )
        there = {EFFECTS: description["effects"], TRAINING: description["training_participants"]}
        wanted = [name for name in _COLUMNS if there.get(name, True)]
        return cls(folder, description, {name: _table(folder / name) for name in wanted})

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the experts, in the order of their maps."""
        return tuple(self.tables[EXPERT_LABELS]["name"])

    def volume(self, name: str, channels: int = 0) -> Volume:
        """Read one of the maps.

        Parameters
        ----------
        name : str
            Of its file.
        channels : int
            Length of its last axis; 0 of a map of three axes.

        Returns
        -------
        Volume
            On the model grid.

        Raises
        ------
        UsageError
            If it is missing, or of another shape or grid.
        ScanError
            If it cannot be read.
        """
        path = self.folder / name
        if not path.is_file():
            raise UsageError(
                f"{printable(str(path))}: must stand beside {DESCRIPTION}; found none. {AGAIN}"
            )
        volume = read_volume(path, TEMPLATE_SPACE)
        shape = (*MODEL_GRID.shape, *([channels] if channels else []))
        if volume.grid != MODEL_GRID or volume.data.shape != shape:
            raise UsageError(
                f"{printable(str(path))}: must have the shape {shape} and lie on the grid that "
                f"{DESCRIPTION} tells; found {volume.data.shape} voxels of "
                f"{volume.grid.voxel_sizes.round(2).tolist()} mm from "
                f"{volume.grid.affine[:3, 3].round(2).tolist()} mm. {AGAIN}"
            )
        return volume


def _table(path: Path) -> pd.DataFrame:
    """Read a table, its numbers to the last digit."""
    columns = _COLUMNS[path.name]
    try:
        # As text at first: names may read n/a, and Python reads numbers back to the last digit.
        table = read_tsv(path)
        for name in columns:
            if name in _WHOLE:
                table[name] = [int(cell) for cell in table[name]]
            elif name not in _TEXT:
                table[name] = [math.nan if cell == "n/a" else float(cell) for cell in table[name]]
            else:
                table[name] = table[name].astype(str)
    except (OSError, LookupError, ValueError) as error:
        must_hold = f"must be a table with the columns {', '.join(columns)}"
        raise _refused(path, must_hold, error) from error
    return table


def _refused(path: Path, must_hold: str, error: Exception) -> UsageError:
    return UsageError(
        f"{printable(str(path))}: {must_hold}; found {type(error).__name__}: {error}. {AGAIN}"
    )
