"""Where the files that travel with the package lie: atlases, recipes, the sample head."""

import os
from functools import cache
from pathlib import Path

from ermoe_ba.errors import UsageError
from ermoe_ba.io import read_volume
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Volume

PACKAGE = Path(__file__).parent
SAMPLE_HEAD = PACKAGE / "sample" / "sub-colin27_T1w.nii.gz"
# Recipes of `cross-validate` and `train` that are installed with the package.
RECIPES = ("site", "ixi_hh")


def atlas_root() -> Path:
    """Return the folder of atlases: ``$ERMOE_BA_ATLASES``, else the package's, else the checkout's.

    Returns
    -------
    Path
        Folder that holds ``registry.toml``.

    Raises
    ------
    UsageError
        If none of the three exists.
    """
    named = os.environ.get("ERMOE_BA_ATLASES")
    places = [Path(named)] if named else [PACKAGE / "atlases", PACKAGE.parent / "atlases"]
    for place in places:
        if (place / "registry.toml").is_file():
            return place
    raise UsageError(f"No atlas folder with a registry.toml at {' or '.join(map(str, places))}.")


def recipe_file(named: str) -> Path:
    """Return where a recipe lies.

    Parameters
    ----------
    named : str
        One of `RECIPES`, unless a file of that name lies in the current folder; else a path.

    Returns
    -------
    Path
        Of the recipe that travels with the package, or the path as it was given.
    """
    path = Path(named)
    if named not in RECIPES or path.is_file():
        return path
    installed = PACKAGE / "recipes" / f"{named}.toml"
    return installed if installed.is_file() else PACKAGE.parent / "pipelines" / f"{named}.toml"


@cache
def template(suffix: str) -> Volume:
    """Return one map of the template on the model grid.

    Parameters
    ----------
    suffix : {"desc-brain_T1w", "desc-brain_mask", "label-GM_probseg", "label-WM_probseg"}
        Which map. Probabilities are stored as 0 to 255.

    Returns
    -------
    Volume
        uint8 values, shape (91, 109, 91).

    Raises
    ------
    UsageError
        If there is no atlas folder, or the map does not lie on the model grid.
    """
    folder = atlas_root() / f"tpl-{TEMPLATE_SPACE}"
    volume = read_volume(folder / f"tpl-{TEMPLATE_SPACE}_res-02_{suffix}.nii.gz", TEMPLATE_SPACE)
    if volume.grid != MODEL_GRID:
        raise UsageError(f"The template in {folder} does not lie on the model grid.")
    # Shared by all callers: nobody may write into it.
    volume.data.setflags(write=False)
    return volume
