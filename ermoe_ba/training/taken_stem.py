"""A stem that another model learnt."""

import torch

from ermoe_ba.checkpoint import load_ensemble
from ermoe_ba.errors import UsageError
from ermoe_ba.training.recipe import Recipe


def taken_stem(recipe: Recipe) -> dict[str, torch.Tensor]:
    """Return the stem of the model that a recipe names: that of its first member.

    A stem is taught tissue from label maps and never sees an age. It may tell tissues apart better
    in the people it was taught on, but has learnt nothing of how old they are.

    Parameters
    ----------
    recipe : Recipe
        With ``run.stem``.

    Returns
    -------
    dict of Tensor
        Its weights.

    Raises
    ------
    UsageError
        If there is no such model, or it has other scans or another width before it.
    """
    assert recipe.run.stem is not None
    ensemble = load_ensemble(recipe.run.stem)
    for setting, theirs, ours in (
        ("preprocess", ensemble.card.preprocess.identity(), recipe.preprocess.identity()),
        ("model.stem_hidden", ensemble.card.model.stem_hidden, recipe.model.stem_hidden),
    ):
        if theirs != ours:
            raise UsageError(
                f"{recipe.run.stem}: its stem can be taken where {setting} is the same; found "
                f"{theirs} there and {ours} in the recipe."
            )
    return ensemble.members[0].stem.state_dict()
