"""What a recipe reads besides the scans of its study."""

import hashlib
from pathlib import Path

from ermoe_ba.atlas import atlas_hash, load_atlas
from ermoe_ba.model_card import model_folder, read_card
from ermoe_ba.model_identity import model_identity
from ermoe_ba.training.recipe import Recipe


def other_inputs(recipe: Recipe, root: Path) -> dict[str, str]:
    """Return what stands for each file that a recipe names, for a run to know them again.

    A recipe names them by path or by name: what lies there may change between two starts of a run,
    or with the version that is installed.

    Parameters
    ----------
    recipe : Recipe
        Of the run.
    root : Path
        Folder of the participants table, where the label table may lie.

    Returns
    -------
    dict of str to str
        By setting: of ``run.label_table`` the SHA-256 of its bytes, 16 hexadecimal digits; of
        ``run.stem`` the identity of the model; of ``model.region_atlas`` the hash of its labels.
        Only what the recipe uses.

    Raises
    ------
    UsageError
        If model or atlas cannot be read.
    OSError
        If the label table cannot be read.
    """
    found = {}
    if recipe.run.label_table is not None:
        content = recipe.run.label_table_path(root).read_bytes()
        found["run.label_table"] = hashlib.sha256(content).hexdigest()[:16]
    if recipe.run.stem is not None:
        folder = model_folder(recipe.run.stem)
        found["run.stem"] = model_identity(folder, read_card(folder))
    if recipe.model.atlas_regions:
        assert recipe.model.region_atlas is not None
        found["model.region_atlas"] = atlas_hash(load_atlas(recipe.model.region_atlas))
    return found
